"""The two compiled passes over UPDATE messages (RFC 4271 section 4.3).

`scan_updates` checks messages, counts their routes and interns their attributes; `fill_events`
then writes a row per route and cannot fail.
"""

from __future__ import annotations

import numpy as np

from flowray.wire.bgp import causes, kernels
from flowray.wire.bgp.attribute_kernels import walk_attributes
from flowray.wire.bgp.events import Action
from flowray.wire.bgp.families import UNKNOWN_FAMILY
from flowray.wire.bgp.intern_kernels import MOST_ADDED, assemble, has_room, intern_tail
from flowray.wire.bgp.kernels import Bytes, Ints, Mask, Words, Words32, kernel, note, u16
from flowray.wire.bgp.nlri_kernels import count_nlri, fill_keys

_ANNOUNCE, _WITHDRAW = int(Action.ANNOUNCE), int(Action.WITHDRAW)
_END_OF_RIB = int(Action.END_OF_RIB)
_RESET, _AS_WITHDRAW = kernels.SESSION_RESET, kernels.TREAT_AS_WITHDRAW
_IPV4_UNICAST = 0
_HEADER = 19
_LEAST = _HEADER + 4

# Places of NLRI in their order, with the cause that malformed ones are.
_PLACES = np.array(
    (
        (kernels.WITHDRAWN, causes.WITHDRAWN_ROUTES, 1),
        (kernels.UNREACHABLE, causes.UNREACHABLE_NLRI, 1),
        (kernels.NLRI, causes.NLRI, 0),
        (kernels.REACHABLE, causes.REACHABLE_NLRI, 0),
    ),
    np.int64,
)


@kernel
def _clear(scan: Ints, i: int) -> None:
    for column in range(kernels.SCAN_COLUMNS):
        scan[i, column] = 0
    for place in range(_PLACES.shape[0]):
        scan[i, _PLACES[place, 0] + kernels.FAMILY] = -1
    scan[i, kernels.END_OF_RIB] = -1


@kernel
def _locate(buf: Bytes, start: int, end: int, scan: Ints, i: int) -> bool:
    """Find the fields of a message; False if it ends before they do."""
    if start < 0 or end > buf.size or end - start < _LEAST:
        note(scan, i, _RESET, causes.MESSAGE_LENGTH, start, 0)
        return False
    withdrawn = start + _HEADER + 2
    attributes = withdrawn + u16(buf, withdrawn - 2) + 2
    if attributes > end:
        note(scan, i, _RESET, causes.WITHDRAWN_LENGTH, withdrawn, 0)
        return False
    nlri = attributes + u16(buf, attributes - 2)
    if nlri > end:
        note(scan, i, _RESET, causes.ATTRIBUTES_LENGTH, attributes, 0)
        return False
    scan[i, kernels.WITHDRAWN] = withdrawn
    scan[i, kernels.WITHDRAWN + kernels.END] = attributes - 2
    scan[i, kernels.WITHDRAWN + kernels.FAMILY] = _IPV4_UNICAST
    scan[i, kernels.NLRI] = nlri
    scan[i, kernels.NLRI + kernels.END] = end
    scan[i, kernels.NLRI + kernels.FAMILY] = _IPV4_UNICAST
    return True


@kernel
def _octets_in(scan: Ints, i: int, place: int) -> int:
    """Octets of NLRI in a place."""
    if scan[i, place + kernels.FAMILY] < 0:
        return 0
    return int(scan[i, place + kernels.END] - scan[i, place])


@kernel
def _require(scan: Ints, i: int, seen: Ints, monitored: int) -> None:
    """Check mandatory attributes, and whether errors in the attributes leave routes to withdraw."""
    legacy = _octets_in(scan, i, kernels.NLRI) > 0
    if legacy or _octets_in(scan, i, kernels.REACHABLE) > 0:
        lacking = seen[kernels.ORIGIN] != i or seen[kernels.AS_PATH] != i
        if lacking or (legacy and seen[kernels.NEXT_HOP_TYPE] != i):
            verdict = kernels.WELL_FORMED if monitored else _AS_WITHDRAW
            note(scan, i, verdict, causes.MISSING, scan[i, kernels.NLRI], 0)
    elif scan[i, kernels.VERDICT] == _AS_WITHDRAW:
        scan[i, kernels.VERDICT] = _RESET  # RFC 7606 section 5.2: no routes, so perhaps overlooked


@kernel
def _has_path_id(add_path: np.uint64, family: int) -> int:
    """1 if NLRI of a family begin with a path identifier."""
    return int(np.int64(add_path >> np.uint64(family) & np.uint64(1)))


@kernel
def _count(buf: Bytes, scan: Ints, i: int, add_path: np.uint64) -> None:
    """Count the events of a message."""
    total = 0
    for k in range(_PLACES.shape[0]):
        place = _PLACES[k, 0]
        family = scan[i, place + kernels.FAMILY]
        pos, end = scan[i, place], scan[i, place + kernels.END]
        if family < 0 or pos == end:
            continue
        if family == UNKNOWN_FAMILY:
            note(scan, i, kernels.WELL_FORMED, causes.UNKNOWN_FAMILY_CAUSE, pos, 0)
            continue
        paths = _has_path_id(add_path, family)
        count = count_nlri(buf, pos, end, family, paths, _PLACES[k, 2] == 1)
        if count < 0:
            note(scan, i, _RESET, _PLACES[k, 1], pos, 0)
            return
        total += count
    scan[i, kernels.COUNT] = total


@kernel
def _find_end_of_rib(scan: Ints, i: int) -> None:
    """Recognise an End-of-RIB marker (RFC 4724 section 2): an UPDATE with no attribute at all, or
    an MP_UNREACH_NLRI without routes, and none elsewhere.
    """
    for k in range(_PLACES.shape[0]):
        if _octets_in(scan, i, _PLACES[k, 0]) > 0:
            return
    family = scan[i, kernels.UNREACHABLE + kernels.FAMILY]
    bare = scan[i, kernels.WITHDRAWN + kernels.END] + 2 == scan[i, kernels.NLRI]
    if family < 0 and bare:
        family = _IPV4_UNICAST
    if family == UNKNOWN_FAMILY:
        note(scan, i, kernels.WELL_FORMED, causes.UNKNOWN_FAMILY_CAUSE, 0, 0)
    elif family >= 0 and scan[i, kernels.REACHABLE + kernels.FAMILY] < 0:
        scan[i, kernels.END_OF_RIB] = family
        scan[i, kernels.COUNT] = 1


@kernel
def _scan(
    buf: Bytes,
    start: int,
    end: int,
    four: int,
    add_path: np.uint64,
    scan: Ints,
    i: int,
    seen: Ints,
    runs: Ints,
    monitored: int,
) -> None:
    _clear(scan, i)
    if not _locate(buf, start, end, scan, i):
        return
    at = scan[i, kernels.WITHDRAWN + kernels.END] + 2
    walk_attributes(buf, at, scan[i, kernels.NLRI], four, scan, i, seen, runs)
    _require(scan, i, seen, monitored)
    _count(buf, scan, i, add_path)
    if scan[i, kernels.COUNT] == 0 and scan[i, kernels.VERDICT] < _AS_WITHDRAW:
        _find_end_of_rib(scan, i)
    if scan[i, kernels.VERDICT] == _RESET:
        scan[i, kernels.COUNT] = 0


@kernel
def _has_routes(scan: Ints, i: int, place: int) -> bool:
    """Whether a place holds NLRI of a family that is understood."""
    return _octets_in(scan, i, place) > 0 and scan[i, place + kernels.FAMILY] != UNKNOWN_FAMILY


@kernel
def _intern(
    buf: Bytes,
    scan: Ints,
    i: int,
    hop: int,
    four: int,
    runs: Ints,
    arena: Bytes,
    offset: Ints,
    slots: Words,
    stored: Ints,
    seed: np.uint64,
) -> int:
    """The id of the attributes of message i with one of its next hops."""
    at, size, count = scan[i, hop], scan[i, hop + 1], scan[i, kernels.RUNS]
    end = assemble(buf, runs, count, at, size, four, arena, offset[stored[0]])
    return int(intern_tail(arena, offset, slots, stored, end, seed))


@kernel
def scan_updates(
    buf: Bytes,
    start: Ints,
    length: Ints,
    context: Ints,
    four_octets: Mask,
    add_path: Words,
    begin: int,
    monitored: int,
    scan: Ints,
    seen: Ints,
    runs: Ints,
    arena: Bytes,
    offset: Ints,
    slots: Words,
    stored: Ints,
    seed: np.uint64,
) -> int:
    """Fill the rows of `scan` (n, SCAN_COLUMNS) from message `begin` on; returns the message for
    which the store has no room.

    `seen` (256,) is -1 at first; `runs` is as `walk_attributes` says, for the longest message.
    """
    for i in range(begin, start.size):
        if not has_room(arena, offset, slots, stored, 2 * (length[i] + MOST_ADDED), 2):
            return i
        four = int(np.int64(four_octets[context[i]]))
        paths = add_path[context[i]]
        end = start[i] + length[i]
        _scan(buf, start[i], end, four, paths, scan, i, seen, runs, monitored)
        if scan[i, kernels.COUNT] == 0 or scan[i, kernels.VERDICT] >= _AS_WITHDRAW:
            continue
        if _has_routes(scan, i, kernels.NLRI):
            scan[i, kernels.NLRI_SET] = _intern(
                buf, scan, i, kernels.NEXT_HOP, four, runs, arena, offset, slots, stored, seed
            )
        if _has_routes(scan, i, kernels.REACHABLE):
            scan[i, kernels.REACHABLE_SET] = _intern(
                buf, scan, i, kernels.MP_NEXT_HOP, four, runs, arena, offset, slots, stored, seed
            )
    return int(start.size)


@kernel
def _say(
    i: int,
    verb: int,
    kind: int,
    attributes_id: int,
    m: int,
    until: int,
    message: Ints,
    action: Bytes,
    family: Bytes,
    attributes: Words32,
) -> None:
    """Fill what the events m..until have in common."""
    for k in range(until - m):
        row = np.uint64(m + k)
        message[row] = i
        action[row] = verb
        family[row] = kind
        attributes[row] = attributes_id


@kernel
def fill_events(
    buf: Bytes,
    context: Ints,
    add_path: Words,
    scan: Ints,
    message: Ints,
    action: Bytes,
    family: Bytes,
    rd: Words,
    path_id: Words32,
    hi: Words,
    lo: Words,
    plen: Bytes,
    labels: Words,
    nlri_offset: Ints,
    nlri_length: Ints,
    attributes: Words32,
) -> None:
    """Fill the columns of RouteEvents, which hold zeros and as many rows as `scan` has counted."""
    m = 0
    for i in range(context.size):
        if scan[i, kernels.COUNT] == 0:
            continue
        if scan[i, kernels.END_OF_RIB] >= 0:
            kind = scan[i, kernels.END_OF_RIB]
            _say(i, _END_OF_RIB, kind, 0, m, m + 1, message, action, family, attributes)
            m += 1
            continue
        as_withdraw = scan[i, kernels.VERDICT] == _AS_WITHDRAW
        for k in range(_PLACES.shape[0]):
            place, withdrawn = _PLACES[k, 0], _PLACES[k, 2] == 1
            kind = scan[i, place + kernels.FAMILY]
            if not _has_routes(scan, i, place):
                continue
            announced = not withdrawn and not as_withdraw
            paths = _has_path_id(add_path[context[i]], kind)
            until = fill_keys(
                buf, scan[i, place], scan[i, place + kernels.END], kind, paths, withdrawn,
                announced, m, rd, path_id, hi, lo, plen, labels, nlri_offset, nlri_length,
            )  # fmt: skip
            verb = _ANNOUNCE if announced else _WITHDRAW
            known = scan[i, kernels.NLRI_SET]
            if place == kernels.REACHABLE:
                known = scan[i, kernels.REACHABLE_SET]
            elif withdrawn:
                known = np.int64(0)
            _say(i, verb, kind, known, m, until, message, action, family, attributes)
            m = until
