"""When a call to the fault file system fails, and how: rules, delays and what was counted of them.

Nothing here depends on the order in which threads come along. A fault that is drawn by chance is drawn from (seed,
rule, file, how often this file was asked for), so the same settings hurt the same files in each run.
"""

from __future__ import annotations

import errno
import random
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field

OPERATIONS = ("open", "read", "getattr")

# What a rule does, besides "E…", an errno by its name:
#   hang      wait until released
#   short     this open's content ends after `size` bytes, whatever st_size says; the next open has it all
#   partial   a read gives at most `size` bytes and the next one goes on from there: legal, and no fault to recover from
#   zeros     bytes [offset, offset + size) of the answer are zero, as in a hole
#   truncate  the file shrinks to `size` bytes, in st_size too
#   grow      the file grows by `size` bytes
#   touch     the file's mtime moves by a second
# The last three happen to the file as its first read is answered, between a reader's two fstats, and last.
# Reads are met at the first one of each open, so that a fault costs a reader one attempt, however many calls it makes
# in it; "partial" and "zeros" meet the others too.
KINDS = ("hang", "short", "partial", "zeros", "truncate", "grow", "touch")
EACH_READ = ("partial", "zeros")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One fault and the calls that it meets. All that is given of `names`, `times`, `total`, `every`, `rate` must fit.

    Attributes:
        fault: One of `KINDS`, or the name of an errno.
        on: "open", "read" or "getattr". Getattr answers lookups too, and those of directories.
        names: Base names of the files that it meets; None for all.
        times: Only the first so many calls for each file.
        total: Only so many calls in all.
        every: Every n-th call, over all files; its place depends on the order of the calls, but not its number.
        rate: Share of the calls, drawn by chance from the seed.
        offset: Where zeros begin.
        size: See `KINDS`, in bytes.
    """

    fault: str
    on: str = "read"
    names: frozenset[str] | None = None
    times: int | None = None
    total: int | None = None
    every: int | None = None
    rate: float | None = None
    offset: int = 0
    size: int = 0

    def __post_init__(self):
        if self.fault not in KINDS and not hasattr(errno, self.fault):
            raise ValueError(f"fault={self.fault!r} is neither an errno nor one of {KINDS}")
        if self.on not in OPERATIONS:
            raise ValueError(f"on={self.on!r} is not one of {OPERATIONS}")
        if self.fault in KINDS[1:] and self.on != "read":
            raise ValueError(f"{self.fault!r} happens to reads, not on={self.on!r}")
        if self.names is not None:
            object.__setattr__(self, "names", frozenset(self.names))

    @property
    def label(self):
        """What the fault is counted as, such as "open EIO"."""
        return f"{self.on} {self.fault}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that a mount can be told.

    Attributes:
        rules: The faults; of several that meet a call, the first is done.
        latency: Seconds before an answer, by operation.
        jitter: The latency is multiplied by a number drawn from 1 ± jitter.
        tail: Share of the calls that take `tail_seconds` more.
        tail_on: The operation that has the tail.
        mtime: "file" is the file's own; "now" is another at each getattr, as some FUSE daemons have it.
        seed: Where chance begins.
    """

    rules: tuple[Rule, ...] = ()
    latency: dict[str, float] = field(default_factory=dict)
    jitter: float = 0.0
    tail: float = 0.0
    tail_seconds: float = 0.0
    tail_on: str = "open"
    mtime: str = "file"
    seed: int = 7

    def __post_init__(self):
        object.__setattr__(self, "rules", tuple(Rule(**rule) for rule in self.rules))
        if unknown := set(self.latency) - set(OPERATIONS):
            raise ValueError(f"latency of {sorted(unknown)}: the operations are {OPERATIONS}")
        if self.mtime not in ("file", "now"):
            raise ValueError(f"mtime={self.mtime!r} is neither 'file' nor 'now'")


class Faults:
    """What the mount was told and what came of it. Every method may be called from any thread.

    Attributes:
        counts: Calls by operation, "open" and so on; faults by `Rule.label`; "tail" for calls that were late by it, and
            "hanging" for those that hang now.
    """

    def __init__(self, settings):
        self._lock = threading.Lock()
        self.counts = Counter()
        self._waiting = []
        self.set(settings)

    def set(self, settings):
        """Go by other settings from here on; counts stay, and so do calls that hang."""
        with self._lock:
            self.settings = settings
            self._of_rule = Counter()
            self._of_file = defaultdict(Counter)
            self._calls = Counter()
            self._released_all = False
            self._released = set()

    def snapshot(self):
        with self._lock:
            return dict(self.counts)

    def arrive(self, operation, name, first=True):
        """Count a call and return (seconds that it takes, rule that meets it or None).

        Args:
            operation: What is called.
            name: The file's base name.
            first: False for the second and later reads of an open file.
        """
        with self._lock:
            self.counts[operation] += 1
            self._calls[operation, name] += 1
            seconds = self._seconds(operation, name)
            for index, rule in enumerate(self.settings.rules):
                now = rule.on == operation and (first or rule.fault in EACH_READ)
                if now and self._meets(index, rule, name):
                    self.counts[rule.label] += 1
                    return seconds, rule
        return seconds, None

    def count(self, label):
        with self._lock:
            self.counts[label] += 1

    def hang(self, name):
        """Wait until released."""
        gate = threading.Event()
        with self._lock:
            if self._released_all or name in self._released:
                return
            self.counts["hanging"] += 1
            self._waiting.append((name, gate))
        gate.wait()

    def release(self, names=None, count=None):
        """Let calls go on that hang, and such calls to these files hang no more; by default all, and all files.

        Args:
            names: Only those of these files.
            count: Only so many of the calls, the oldest first; further calls still hang.
        """
        with self._lock:
            if count is None:
                self._released_all = self._released_all or names is None
                self._released.update(names or ())
            held, left = self._waiting, count
            self._waiting = []
            for name, gate in held:
                if (names is None or name in names) and left != 0:
                    left = left and left - 1
                    self.counts["hanging"] -= 1
                    gate.set()
                else:
                    self._waiting.append((name, gate))

    def _meets(self, index, rule, name):
        if rule.names is not None and name not in rule.names:
            return False
        if rule.fault == "hang" and (self._released_all or name in self._released):
            return False
        self._of_file[index][name] += 1
        nth_of_file = self._of_file[index][name]
        if rule.times is not None and nth_of_file > rule.times:
            return False
        if rule.rate is not None and self._chance(index, name, nth_of_file).random() >= rule.rate:
            return False
        self._of_rule[index] += 1
        nth = self._of_rule[index]
        if rule.every is not None and nth % rule.every:
            return False
        return rule.total is None or nth <= rule.total * (rule.every or 1)

    def _seconds(self, operation, name):
        settings = self.settings
        seconds = settings.latency.get(operation, 0.0)
        if not (settings.jitter or settings.tail):
            return seconds
        chance = self._chance(operation, name, self._calls[operation, name])
        seconds *= 1 + settings.jitter * chance.uniform(-1, 1)
        if operation == settings.tail_on and chance.random() < settings.tail:
            self.counts["tail"] += 1
            seconds += settings.tail_seconds
        return seconds

    def _chance(self, *place):
        return random.Random(f"{self.settings.seed} {place}")  # noqa: S311 - repeatable faults, not a secret
