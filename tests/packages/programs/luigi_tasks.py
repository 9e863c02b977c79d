"""Tasks that depend on each other; one of them makes tasks while it runs."""

import luigi


class Number(luigi.Task):
    n = luigi.IntParameter()

    def output(self):
        return luigi.LocalTarget(f"number-{self.n}.txt")

    def run(self):
        with self.output().open("w") as file:
            file.write(f"{self.n * self.n}\n")


class Sum(luigi.Task):
    first = luigi.IntParameter()

    def requires(self):
        return [Number(n) for n in range(self.first, self.first + 5)]

    def output(self):
        return luigi.LocalTarget(f"sum-{self.first}.txt")

    def run(self):
        more = yield Number(self.first + 100)
        total = sum(int(target.open().read()) for target in (*self.input(), more))
        self.set_status_message(f"total {total}")
        with self.output().open("w") as file:
            file.write(f"{total}\n")


class All(luigi.WrapperTask):
    def requires(self):
        return [Sum(0), Sum(5)]
