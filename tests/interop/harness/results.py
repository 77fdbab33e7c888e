"""One line for each check, a count at the end."""

import contextlib


class Results:
    def __init__(self, only):
        self.only = only
        self.passed = 0
        self.failed = 0

    def wanted(self, scenario):
        return not self.only or self.only in scenario

    @contextlib.contextmanager
    def check(self, name):
        """A check fails by any exception: an assertion of ours, or what a tool threw."""
        try:
            yield
        except Exception as reason:
            self.failed += 1
            text = " ".join(f"{reason}".split()) or type(reason).__name__
            print(f"FAIL  {name}: {text[:600]}", flush=True)
        else:
            self.passed += 1
            print(f"ok    {name}", flush=True)

    def finish(self):
        print(f"{self.passed} ok, {self.failed} failed")
        return 1 if self.failed or not self.passed else 0


def expect_equal(what, got, wanted):
    if got != wanted:
        raise AssertionError(f"{what} is {got!r}, not {wanted!r}")
