#!/bin/sh
# in_root.sh ROOT COMMAND …: runs a command of another system, whose files are under ROOT, on this
# directory. The mounts are seen by the command only and go with it. Needs to be root.
set -eu
root=$(realpath "$1")
shift
top=$(realpath "$(dirname "$0")/../..")
exec unshare --mount sh -euc '
    root=$1 top=$2
    shift 2
    mkdir -p "$root$top"
    for place in /proc /sys /dev /tmp "$top"; do mount --rbind "$place" "$root$place"; done
    exec chroot "$root" env -C "$PWD" "$@"
' sh "$root" "$top" "$@"
