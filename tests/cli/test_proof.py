"""The demo's proof: it fails when something is wrong."""

import pytest

from asyncsfk import Outcome, Product, Usage
from asyncsfk.cli._demo import tell_verdict
from asyncsfk.cli._exit import ExitCode
from asyncsfk.cli._proof import Proof
from asyncsfk.simulator import Simulator


@pytest.fixture
def simulator():
    return Simulator()


def verdict(proof, usage, creators, capsys):
    return tell_verdict(usage, proof, creators), capsys.readouterr().out.splitlines()


def test_nothing_to_complain_of(simulator, capsys):
    """If nothing was asked for, the proof holds."""
    code, told = verdict(Proof(simulator), Usage(), 0, capsys)
    assert (code, told[-1]) == (ExitCode.COMPLETE, "The proof holds.")


@pytest.mark.parametrize("status", ["complete", "partial"])
def test_products_that_differ(simulator, capsys, status):
    """A creator whose products differ from the simulator's fails the proof, with exit code 1."""
    proof = Proof(simulator)
    handle = "a.3products"
    false = tuple(Product(id=row["id"], title="false") for row in simulator.showcase(handle))
    proof.check(Outcome(handle=handle, status=status, products=false))
    code, told = verdict(proof, Usage(), 1, capsys)
    assert code == ExitCode.INCOMPLETE
    assert told == [f"1 {status} creators differ from the truth", "The proof fails."]


def test_a_complete_creator_that_lacks_products(simulator, capsys):
    """A complete creator that lacks products fails the proof."""
    proof = Proof(simulator)
    proof.check(Outcome(handle="a.3products", status="complete"))
    assert verdict(proof, Usage(), 1, capsys)[0] == ExitCode.INCOMPLETE


@pytest.mark.parametrize(
    ("usage", "creators", "told"),
    [
        (Usage(charged=1), 0, "the ledger's 0 credits lie outside of 1 to 1"),
        (Usage(), 1, "1 creators were asked for and 0 had an outcome"),
    ],
)
def test_books_that_differ(simulator, capsys, usage, creators, told):
    """Credits outside of what was counted, or a creator without an outcome, fail the proof."""
    code, lines = verdict(Proof(simulator), usage, creators, capsys)
    assert code == ExitCode.INCOMPLETE
    assert lines == [told, "The proof fails."]


def test_of_nothing_everything_is_true(simulator, capsys):
    """If hardly any creator is complete the proof fails, however well the rest agrees."""
    proof = Proof(simulator)
    for number in range(40):
        proof.check(Outcome(handle=f"a{number}", status="failed"))
    code, told = verdict(proof, Usage(), 40, capsys)
    assert code == ExitCode.INCOMPLETE
    assert told == ["only 0 of 40 creators are complete", "The proof fails."]
