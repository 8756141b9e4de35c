"""NetFlow v5, v9 and IPFIX datagrams to native columns.

Templates and options data take effect in the order of arrival: the sets of a batch are decoded in
runs, and a run ends where a template or an option changes something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowray.columns import Columns, Layout
from flowray.hashing import MISSING, Interner
from flowray.ingest.extract import Extractor
from flowray.ingest.hold import HeldSet, Hold
from flowray.ingest.ledger import Account, Ledger
from flowray.ingest.options import Fact, Options, Topic, record_values, tells_anything
from flowray.ingest.remembered import Remembered
from flowray.ingest.sequences import Sequences
from flowray.ingest.settling import Settling
from flowray.ingest.templates import TemplateKey, Templates
from flowray.wire.flow import kernels as k
from flowray.wire.flow.template import Template, TemplateError, Withdrawal, parse_templates
from flowray.wire.packets import PacketBatch

I64 = npt.NDArray[np.int64]

SETS_AT_ONCE = 1 << 14
"""Sets scanned in one go: those behind a set that changes a template are looked up anew, so a flood
of changes costs the square of it.
"""

NEWS_LIMIT = 1 << 17
"""Templates and facts kept for the template store until it asks."""

RELEASE_OCTETS = 4 << 20
"""Octets of data decoded at a time when its wait for options ends, so that sockets are not left
alone for long.
"""

SUBJECTS_LIMIT = 1 << 20
"""Templates and facts whose time of telling is known."""


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """Bounds and switches of flow decoding. Octets and nanoseconds."""

    whole_seconds: bool = False
    boot_from_options: bool = True
    hold: bool = True
    hold_octets_per_exporter: int = 1 << 20
    hold_octets: int = 64 << 20
    hold_age_ns: int = 1800 * 1_000_000_000
    templates_per_exporter: int = 4096
    templates: int = 1 << 17
    template_idle_ns: int = 1800 * 1_000_000_000
    tunnels: int = 0
    sflow_frame_bytes: bool = True
    trust_exporters: bool = True


class Messages(NamedTuple):
    """What a run is decoded from: datagrams in a buffer and their header rows."""

    buf: npt.NDArray[np.uint8]
    exporter: npt.NDArray[np.uint32]
    arrival: I64
    header: I64


class Learned(NamedTuple):
    """A template or a fact that an exporter told: what shards share through the template store.

    `at` (ns) is when it was told: of two that contradict each other the later one holds.
    """

    key: TemplateKey
    template: Template | None
    fact: Fact | None
    at: int


Enrich = Callable[[Columns, Messages], None]


class FlowDecoder:
    """State of all NetFlow and IPFIX exporters of a shard: templates, options, held sets, sequence
    accounts.

    `shared`: exporters move between shards, and a template store tells what the others learned; the
    owner calls `settling.pulled` and `release_settled`.
    """

    def __init__(
        self,
        layout: Layout,
        settings: DecodeSettings,
        ledger: Ledger,
        texts: Interner,
        enrich: Enrich,
        *,
        shared: bool = False,
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._ledger = ledger
        self._texts = texts
        self._enrich = enrich
        self._extractor = Extractor(layout, settings.tunnels)
        self.options = Options(texts)
        self.templates = Templates(
            layout,
            whole_seconds=settings.whole_seconds,
            per_exporter=settings.templates_per_exporter,
            limit=settings.templates,
            idle_ns=settings.template_idle_ns,
            expired=self._expired,
        )
        self.hold = Hold(
            settings.hold_octets_per_exporter, settings.hold_octets, settings.hold_age_ns
        )
        # A shard that takes over busy exporters may have to keep a second of their data.
        self.settling = Settling(
            Hold(settings.hold_octets // 4, settings.hold_octets, settings.hold_age_ns),
            settings.templates if shared and settings.hold else 0,
        )
        self.learned: list[Learned] = []
        self._told_at: dict[tuple[TemplateKey, int, int], int] = {}
        self._remembered = Remembered()
        self.sequences = Sequences(settings.templates)

    def replace_texts(self, texts: Interner) -> None:
        """Go on with an empty interner: facts are interned anew, ids given before are void."""
        self._texts = texts
        self.options.rebuild(texts)

    # -- batches -----------------------------------------------------------------------------------
    # ------------------

    def decode(self, batch: PacketBatch) -> Iterator[Columns]:
        """Native columns of all records of a batch, in parts; each is void when the next one is
        asked for. Never raises for what the network sent.

        Datagrams of other protocols (sFlow) must not be in the batch.
        """
        header = np.zeros((len(batch), k.HEADER_COLUMNS), np.int64)
        messages = Messages(batch.buf, batch.exporter, batch.arrival, header)
        unknown = np.zeros(len(batch), np.bool_)
        done = 0
        room = max(int(batch.length.max(initial=0)) // 4 + 1, min(4 * len(batch), SETS_AT_ONCE))
        while done < len(batch):
            sets = np.empty((room, k.SET_COLUMNS), np.int64)
            count, after = k.scan(batch.buf, batch.offset, batch.length, done, header, sets)
            self.settling.meet(
                batch.exporter[done:after], header[done:after], batch.arrival[done:after]
            )
            yield from self._decode_sets(messages, sets[:count], unknown)
            done = after
        self._account(messages, unknown)

    def _decode_sets(
        self, m: Messages, sets: I64, unknown: npt.NDArray[np.bool_]
    ) -> Iterator[Columns]:
        begin = 0
        self._resolve(m, sets, 0)
        position = 0
        control = self._control(sets, 0)
        while position < control.size:
            s = int(control[position])
            position += 1
            apply = self._control_change(m, sets[s])
            if apply is None:
                continue
            yield from self._decode_run(m, sets[begin:s], unknown)
            yield from apply()
            begin = s + 1
            self._resolve(m, sets, begin)
            control, position = self._control(sets, begin), 0
        yield from self._decode_run(m, sets[begin:], unknown)

    def _resolve(self, m: Messages, sets: I64, begin: int) -> None:
        k.resolve(sets, begin, m.header, m.exporter, *self.templates.index.arrays)

    def _control(self, sets: I64, begin: int) -> I64:
        """Indices of the sets that may change state, from `begin` on."""
        tail = sets[begin:]
        template = tail[:, k.S_TEMPLATE]
        options = (template >= 0) & self.templates.is_options[np.maximum(template, 0)]
        return np.flatnonzero((tail[:, k.S_KIND] != k.SET_DATA) | options) + begin

    # -- templates and options
    # ---------------------------------------------------------------------------------------

    def _control_change(self, m: Messages, row: I64) -> Callable[[], Iterator[Columns]] | None:
        """What a template or options set changes, as a deferred call; None if nothing."""
        i = int(row[k.S_PACKET])
        exporter, domain = int(m.exporter[i]), int(m.header[i, k.H_DOMAIN])
        version = int(m.header[i, k.H_VERSION])
        raw = m.buf[row[k.S_OFFSET] : row[k.S_OFFSET] + row[k.S_LENGTH]].tobytes()
        place = (exporter, domain, version)
        seen = self._remembered.digest(int(row[k.S_ID]), raw)
        known = self._remembered.knows(place, seen)
        if row[k.S_KIND] == k.SET_DATA:
            compiled = self.templates.compiled[int(row[k.S_TEMPLATE])].template
            if known or not tells_anything(compiled):
                self._count_options(m, i, compiled, raw)
                return None
            return self._options_change(m, i, place, compiled, raw, seen)
        if known:
            return None
        try:
            found = parse_templates(raw, version, options=row[k.S_KIND] == k.SET_OPTIONS_TEMPLATE)
        except TemplateError as error:
            m.header[i, k.H_CAUSE] = Account.BAD_TEMPLATE - Account.SHORT_HEADER + k.SHORT_HEADER
            # A set that is not remembered counts as bad each time.
            found, seen = error.found, b""
        if all(self._knows(place, t) for t in found):
            if seen:
                self._remembered.add(place, seen)
            return None
        return lambda: self._learn_templates(place, seen, found, int(m.arrival[i]))

    def _knows(self, place: tuple[int, int, int], t: Template | Withdrawal) -> bool:
        known = self.templates.get(TemplateKey(*place, t.id))
        if isinstance(t, Withdrawal):
            return known is None and t.id > 3
        return known == t

    def _learn_templates(
        self,
        place: tuple[int, int, int],
        seen: bytes,
        found: list[Template | Withdrawal],
        now_ns: int,
    ) -> Iterator[Columns]:
        # A set that redefines a template makes earlier sets news again.
        self._remembered.forget(place)
        if seen:
            self._remembered.add(place, seen)
        for t in found:
            key = TemplateKey(*place, t.id)
            yield from self._settle_before(key, t)
            if isinstance(t, Withdrawal):
                self._withdraw(key)
            elif self.install(key, t, now_ns):
                self._learn(Learned(key, t, None, now_ns))
                self._ledger.add_one(Account.TEMPLATES, key.exporter)
                yield from self._release_held(key, now_ns)
            else:
                self._ledger.add_one(Account.TEMPLATES_REFUSED, key.exporter)
                # There may be room when it is told again.
                self._remembered.forget(place)

    def _settle_before(self, key: TemplateKey, t: Template | Withdrawal) -> Iterator[Columns]:
        """Decode what waits for options, if its template is about to change or to go."""
        if not self.settling.hold.octets:
            return
        if isinstance(t, Withdrawal) or self.templates.get(key) not in (None, t):
            place = key.exporter, key.domain, key.version
            if self.settling.settles(place):
                self.settling.settle((place,), known=False)
            yield from self.release_settled(self.settling.hold.octets)

    def _withdraw(self, key: TemplateKey) -> None:
        if key.id in (2, 3):
            self.templates.withdraw_all(key, options=key.id == 3)
        else:
            self.templates.withdraw(key)

    def install(self, key: TemplateKey, template: Template, now_ns: int) -> bool:
        """Take a template as told, by the exporter or by the template store."""
        return self.templates.put(key, template, now_ns)

    def _expired(self, key: TemplateKey) -> None:
        """A template gave room: when its exporter tells it again that is news."""
        self._ledger.add_one(Account.TEMPLATES_EXPIRED, key.exporter)
        self._remembered.forget((key.exporter, key.domain, key.version))

    def _learn(self, learned: Learned) -> None:
        """Note news from an exporter, to be shared. Bounded: a flood of it is not shared."""
        if len(self.learned) < NEWS_LIMIT:
            self.learned.append(learned)
        if len(self._told_at) >= SUBJECTS_LIMIT:
            self._told_at.clear()
        self._told_at[_subject(learned)] = learned.at

    def known(self) -> Iterator[Learned]:
        """Templates and facts as they are told last."""
        for (key, topic, number), at in self._told_at.items():
            if key.id:
                if (template := self.templates.get(key)) is not None:
                    yield Learned(key, template, None, at)
            elif (value := self.options.get(key.exporter, key.domain, topic, number)) is not None:
                yield Learned(key, None, (topic, number, value), at)

    def install_from_store(self, exporter: int, learned: Learned, now_ns: int) -> Iterator[Columns]:
        """Take what another shard learned, unless this one knows as much or better; decodes what
        was held for it.
        """
        key = replace(learned.key, exporter=exporter)
        place = exporter, key.domain, key.version
        self.settling.told(place, learned.at)
        subject = _subject(learned._replace(key=key))
        if self._told_at.get(subject, -1) >= learned.at:
            return
        if learned.fact is not None:
            self.options.store(exporter, key.domain, *learned.fact)
        elif learned.template is not None:
            yield from self._settle_before(key, learned.template)
            if not self.install(key, learned.template, now_ns):
                return
        self._told_at[subject] = learned.at
        # The exporter's own words about it are news again, whatever this shard remembers of them.
        self._remembered.forget(place)
        if learned.template is not None and self.hold.holds(key):
            self.settling.restart(place, now_ns)
            yield from self._release_held(key, now_ns)

    def _options_change(
        self,
        m: Messages,
        i: int,
        place: tuple[int, int, int],
        template: Template,
        raw: bytes,
        seen: bytes,
    ) -> Callable[[], Iterator[Columns]] | None:
        exporter, domain, _ = place
        self._count_options(m, i, template, raw)
        records = list(record_values(template, raw))
        # Later records of the set may repeat or overrule earlier ones: any news makes all of them
        # apply in order.
        if not any(self.options.news(exporter, domain, values) for values in records):
            self._remembered.add(place, seen)
            return None

        def apply() -> Iterator[Columns]:
            self._remembered.forget(place)
            self._remembered.add(place, seen)
            for values in records:
                for fact in self.options.news(exporter, domain, values):
                    self.options.store(exporter, domain, *fact)
                    self._learn(Learned(TemplateKey(*place, 0), None, fact, int(m.arrival[i])))
            yield from ()

        return apply

    def _count_options(self, m: Messages, i: int, template: Template, raw: bytes) -> None:
        if template.variable:
            n = sum(1 for _ in record_values(template, raw))
        else:
            n = len(raw) // template.least_size
        m.header[i, k.H_RECORDS] += n
        self._ledger.add_one(Account.OPTION_RECORDS, int(m.exporter[i]), n)

    # -- data --------------------------------------------------------------------------------------
    # ------------------

    def _decode_run(
        self, m: Messages, sets: I64, unknown: npt.NDArray[np.bool_] | None
    ) -> Iterator[Columns]:
        """Decode data sets whose templates are resolved; hold those without."""
        if self._settings.boot_from_options:
            self._place_boot_times(m)
        data = sets[:, k.S_KIND] == k.SET_DATA
        number = np.where(data, sets[:, k.S_TEMPLATE], -2)
        if self.settling.active:
            self._defer(m, sets, number)
        waiting = np.flatnonzero(number == -1)
        if waiting.size:
            kept = self._hold(m, sets[waiting])
            if unknown is not None:
                unknown[sets[waiting[~kept], k.S_PACKET]] = True
        for plan_number in np.unique(number[number >= 0]):
            if self.templates.is_options[plan_number]:
                continue
            chosen = np.flatnonzero(number == plan_number)
            for plan in self.templates.compiled[plan_number].plans:
                for columns in self._extractor.extract(
                    m.buf, m.header, sets, chosen, plan, self._texts
                ):
                    self._enrich(columns, m)
                    yield columns

    def _place_boot_times(self, m: Messages) -> None:
        """Put the boot time told by options (ms) into IPFIX header rows, where NetFlow v9 has its
        uptime.
        """
        if not self.options.knows(Topic.BOOT):
            return
        ipfix = np.flatnonzero(m.header[:, k.H_VERSION] == k.IPFIX)
        exporter = m.exporter[ipfix].astype(np.uint64)
        domain = m.header[ipfix, k.H_DOMAIN].astype(np.uint64)
        boot = self.options.look_up(exporter, domain, Topic.BOOT, np.zeros_like(domain))
        m.header[ipfix, k.H_UPTIME] = np.where(boot == MISSING, 0, boot)

    def _hold(self, m: Messages, sets: I64) -> npt.NDArray[np.bool_]:
        """(n,) whether sets are held; what is not is given up."""
        exporter = m.exporter[sets[:, k.S_PACKET]].astype(np.int64)
        self._ledger.add(Account.SETS_HELD, exporter)
        if not self._settings.hold:
            self._ledger.add(Account.SETS_EVICTED, exporter)
            return np.zeros(len(sets), np.bool_)
        kept = _keep(self.hold, m, sets)
        self._ledger.add(Account.SETS_EVICTED, exporter[~kept])
        return kept

    def _defer(self, m: Messages, sets: I64, number: I64) -> None:
        """Have the data of exporters that settle here wait for their options: its template number
        becomes -2. What there is no room for is decoded as it is.
        """
        packet = sets[:, k.S_PACKET]
        waits = self.settling.waits(m.exporter[packet], m.header[packet])
        waits &= (number >= 0) & ~self.templates.is_options[np.maximum(number, 0)]
        chosen = np.flatnonzero(waits)
        if not chosen.size:
            return
        exporter = m.exporter[packet[chosen]].astype(np.int64)
        kept = _keep(self.settling.hold, m, sets[chosen])
        number[chosen[kept]] = -2
        self._ledger.add(Account.SETS_HELD, exporter[kept])
        self._ledger.add(Account.SETS_UNSETTLED, exporter[~kept])

    def _release_held(self, key: TemplateKey, now_ns: int) -> Iterator[Columns]:
        """Decode what was held for a template, or have it wait on for the exporter's options."""
        held = self.hold.take(key)
        template = self.templates.get(key)
        settles = self.settling.settles((key.exporter, key.domain, key.version))
        if held and settles and template is not None and not template.is_options:
            held = self._wait_on(key, held, now_ns)
        yield from self._decode_held(key, held, now_ns)

    def _wait_on(self, key: TemplateKey, held: list[HeldSet], now_ns: int) -> list[HeldSet]:
        """Move held sets to those that wait for options; those without room are returned."""
        left = []
        for h in held:
            if self.settling.hold.room(key.exporter, len(h.raw)):
                h.since = now_ns
                self.settling.hold.put(key, h)
            else:
                left.append(h)
        self._ledger.add_one(Account.SETS_UNSETTLED, key.exporter, len(left))
        return left

    def release_settled(self, octets: int = RELEASE_OCTETS) -> Iterator[Columns]:
        """Decode data whose wait for options is over: about so many octets of it."""
        for key, held, known in self.settling.take_ripe(octets):
            if not known:
                self._ledger.add_one(Account.SETS_UNSETTLED, key.exporter, len(held))
            for since, sets in groupby(held, lambda h: h.since):
                yield from self._decode_held(key, list(sets), since)

    def _decode_held(
        self, key: TemplateKey, held: list[HeldSet], since_ns: int
    ) -> Iterator[Columns]:
        if not held:
            return
        sizes = np.array([len(h.raw) for h in held], np.int64)
        n = len(held)
        messages = Messages(
            # Writable, as received ones are: kernels are compiled for either kind apart.
            np.frombuffer(bytearray().join(h.raw for h in held), np.uint8),
            np.full(n, key.exporter, np.uint32),
            np.array([h.arrival for h in held], np.int64),
            np.stack([h.header for h in held]),
        )
        messages.header[:, k.H_RECORDS] = 0
        sets = np.zeros((n, k.SET_COLUMNS), np.int64)
        sets[:, k.S_PACKET] = np.arange(n)
        sets[:, k.S_ID] = key.id
        sets[:, k.S_OFFSET] = np.cumsum(sizes) - sizes
        sets[:, k.S_LENGTH] = sizes
        self._ledger.add_one(Account.SETS_HELD_DECODED, key.exporter, n)
        self._resolve(messages, sets, 0)
        control = self._control(sets, 0)
        if control.size:
            # What was held is options data: apply it, there is nothing to decode before it.
            for s in control:
                apply = self._control_change(messages, sets[int(s)])
                if apply is not None:
                    yield from apply()
        else:
            for columns in self._decode_run(messages, sets, None):
                columns.since = since_ns
                yield columns
        self._find_records(messages)

    def expire(self, now_ns: int) -> None:
        """Give up held sets that are older than the bound."""
        for exporter, n in self.hold.expire(now_ns):
            self._ledger.add_one(Account.SETS_EXPIRED, exporter, n)

    # -- accounts ----------------------------------------------------------------------------------
    # ------------------

    def _account(self, m: Messages, unknown: npt.NDArray[np.bool_]) -> None:
        exporter = m.exporter.astype(np.int64)
        cause = m.header[:, k.H_CAUSE]
        self._ledger.add(Account.DATAGRAMS, exporter)
        self._ledger.add(Account.DECODED, exporter[cause == k.OK])
        for c in np.unique(cause[cause != k.OK]):
            self._ledger.add(
                Account(Account.SHORT_HEADER + int(c) - k.SHORT_HEADER), exporter[cause == c]
            )
        self._account_sequences(m, unknown)

    def _account_sequences(self, m: Messages, unknown: npt.NDArray[np.bool_]) -> None:
        version = m.header[:, k.H_VERSION]
        good = np.flatnonzero(
            (m.header[:, k.H_CAUSE] == k.OK) & (version <= k.IPFIX) & (version > 0)
        )
        if not good.size:
            return
        # Nearly always all are good, which need not be picked out then.
        some = slice(None) if good.size == version.size else good
        exporter, domain = m.exporter[some].astype(np.int64), m.header[some, k.H_DOMAIN]
        # NetFlow v9 numbers messages, v5 and IPFIX count records.
        step = np.where(version[some] == k.V9, 1, m.header[some, k.H_RECORDS])
        step[unknown[some] & (version[some] == k.IPFIX)] = -1
        place = domain << 4 | version[some]
        sequence = m.header[some, k.H_SEQUENCE]
        self.sequences.account(exporter, place, sequence, step, m.arrival[some])

    def _find_records(self, m: Messages) -> None:
        """Count the records of sets that were held into the sequence accounts of their messages."""
        found = (m.header[:, k.H_RECORDS] > 0) & (m.header[:, k.H_VERSION] == k.IPFIX)
        header = m.header[found]
        self.sequences.found(
            m.exporter[found].astype(np.int64),
            header[:, k.H_DOMAIN] << 4 | k.IPFIX,
            header[:, k.H_SEQUENCE],
            header[:, k.H_RECORDS],
        )


def _keep(hold: Hold, m: Messages, sets: I64) -> npt.NDArray[np.bool_]:
    """Put sets into a hold; (n,) whether there was room."""
    kept = np.zeros(len(sets), np.bool_)
    for n, row in enumerate(sets):
        i, start, octets = int(row[k.S_PACKET]), int(row[k.S_OFFSET]), int(row[k.S_LENGTH])
        exporter = int(m.exporter[i])
        if not hold.room(exporter, octets):
            continue
        domain, version = int(m.header[i, k.H_DOMAIN]), int(m.header[i, k.H_VERSION])
        raw = m.buf[start : start + octets].tobytes()
        key = TemplateKey(exporter, domain, version, int(row[k.S_ID]))
        hold.put(key, HeldSet(raw, m.header[i].copy(), int(m.arrival[i])))
        kept[n] = True
    return kept


def _subject(learned: Learned) -> tuple[TemplateKey, int, int]:
    """What news is about: a template, or one fact (topic, id) of a domain."""
    if learned.fact is None:
        return learned.key, 0, 0
    return learned.key, learned.fact[0], learned.fact[1]
