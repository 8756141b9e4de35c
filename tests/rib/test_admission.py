"""Who may connect, on a clock of the test's own."""

from flowray.rib.admission import Admission, Limits, Refusal

SECOND = 1_000_000_000
A, B, C = "192.0.2.1", "192.0.2.2", "2001:db8::1"


def test_the_allow_list_knows_both_families() -> None:
    admission = Admission(Limits(allow=("192.0.2.0/31", "2001:db8::/32")))
    assert admission.refusal(A, 0) is None
    assert admission.refusal(C, 0) is None
    assert admission.refusal(B, 0) is Refusal.NOT_ALLOWED
    assert Admission(Limits(allow=("::/0",))).refusal(A, 0) is Refusal.NOT_ALLOWED


def test_one_session_an_address_and_so_many_peers() -> None:
    admission = Admission(Limits(max_peers=2))
    admission.begun(A)
    assert admission.refusal(A, 0) is Refusal.DUPLICATE
    admission.begun(B)
    assert admission.refusal(B, 0) is Refusal.DUPLICATE
    assert admission.refusal(C, 0) is Refusal.TOO_MANY
    admission.over(A, 0, 100 * SECOND)
    assert admission.refusal(C, 0) is None
    assert admission.refusal(A, 0) is None


def test_several_sessions_an_address_where_told_so() -> None:
    admission = Admission(Limits(max_per_address=2))
    admission.begun(A)
    assert admission.refusal(A, 0) is None
    admission.begun(A)
    assert admission.refusal(A, 0) is Refusal.DUPLICATE


def fail(admission: Admission, address: str, now_ns: int) -> None:
    admission.begun(address)
    admission.over(address, None, now_ns)


def test_who_fails_again_and_again_waits() -> None:
    admission = Admission(Limits(failures=3, back_off_s=60))
    for now in range(3):
        assert admission.refusal(A, now) is None
        fail(admission, A, now)
    assert admission.refusal(A, 3) is Refusal.BACKING_OFF
    assert admission.refusal(B, 3) is None
    then = 60 * SECOND + 2
    assert admission.refusal(A, then - 1) is Refusal.BACKING_OFF
    assert admission.refusal(A, then) is None
    fail(admission, A, then)  # one try, not three
    assert admission.refusal(A, then) is Refusal.BACKING_OFF


def test_a_session_that_lasts_is_forgiven_all() -> None:
    admission = Admission(Limits(failures=2, quick_s=10))
    fail(admission, A, 0)
    admission.begun(A)
    admission.over(A, established_ns=0, now_ns=10 * SECOND)
    fail(admission, A, 0)
    assert admission.refusal(A, 0) is None
    admission.begun(A)
    admission.over(A, established_ns=0, now_ns=10 * SECOND - 1)
    assert admission.refusal(A, 0) is Refusal.BACKING_OFF


def test_the_log_says_once_a_minute_what_is_refused() -> None:
    admission = Admission(Limits())
    assert admission.tell(A, Refusal.DUPLICATE, 0) == 0
    assert admission.tell(B, Refusal.DUPLICATE, 0) == 0
    for now in range(5):
        assert admission.tell(A, Refusal.DUPLICATE, now) is None
    assert admission.tell(A, Refusal.TOO_MANY, 6) == 5
    assert admission.tell(A, Refusal.TOO_MANY, 60 * SECOND + 5) is None
    assert admission.tell(A, Refusal.TOO_MANY, 60 * SECOND + 6) == 1


def test_what_is_remembered_is_bounded() -> None:
    admission = Admission(Limits(failures=1))
    for i in range(10_000):
        fail(admission, f"10.0.{i >> 8}.{i & 255}", 0)
    assert len(admission._history) == 4096
    assert admission.refusal("10.0.0.0", 0) is None
    assert admission.refusal("10.0.39.15", 0) is Refusal.BACKING_OFF
    assert not admission._sessions
