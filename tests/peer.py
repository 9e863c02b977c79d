"""The other end of a connection: a program on the standard library's package alone.

Tests start it, by this interpreter or another one. It is told what to do in its arguments, prints
one line of JSON at a time, and never imports manycore.
"""

import json
import queue
import sys
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener, answer_challenge, deliver_challenge
from multiprocessing.managers import BaseManager, DictProxy


class Manager(BaseManager):
    """Serves a queue and a dictionary."""


def tell(*what):
    print(json.dumps(what), flush=True)


def address_of(text):
    address = json.loads(text)
    return tuple(address) if isinstance(address, list) else address


def listener(address, key):
    try:
        with Listener(address_of(address), authkey=key) as bound:
            tell("address", bound.address)
            with bound.accept() as connection:
                echo(connection)
    except AuthenticationError as error:
        tell("refused", str(error))


def client(address, key):
    try:
        with Client(address_of(address), authkey=key) as connection:
            echo(connection)
    except AuthenticationError as error:
        tell("refused", str(error))


def echo(connection):
    """Sends back what comes, objects as objects and bytes as bytes, until the other end closes."""
    try:
        while True:
            connection.send(connection.recv())
            connection.send_bytes(connection.recv_bytes())
    except EOFError:
        tell("closed")


def challenger(address, key):
    """Asks, then answers, on a connection that needs no key."""
    with Client(address_of(address)) as connection:
        try:
            deliver_challenge(connection, key)
            answer_challenge(connection, key)
            tell("agreed")
        except AuthenticationError as error:
            tell("refused", str(error))


def server(address, key):
    served, shared = queue.Queue(), {"who": "the standard library"}
    Manager.register("get_queue", callable=lambda: served)
    Manager.register("get_dict", callable=lambda: shared, proxytype=DictProxy)
    manager = Manager(address=address_of(address), authkey=key)
    running = manager.get_server()
    tell("address", running.address)
    running.serve_forever()


def user(address, key):
    """Uses what another process serves: takes an item, answers it, and looks at the dictionary."""
    Manager.register("get_queue")
    Manager.register("get_dict", proxytype=DictProxy)
    manager = Manager(address=address_of(address), authkey=key)
    try:
        manager.connect()
    except AuthenticationError as error:
        return tell("refused", str(error))
    shared, served = manager.get_dict(), manager.get_queue()
    item = served.get()
    shared["seen"] = item
    shared.update(items=[1, 2.5, None])
    try:
        shared["missing"]
    except KeyError as error:
        shared["error"] = error.args[0]
    served.put([item, sorted(shared.keys()), shared.copy()["who"]])
    served.task_done()
    return tell("done")


if __name__ == "__main__":
    _, role, address, key = sys.argv
    globals()[role](address, key.encode() if key else None)
