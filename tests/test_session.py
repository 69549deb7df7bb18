"""A version in a session, asked from many threads at once."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from keras_googlenet.session import SavedModelSession

pytest_plugins = ["small_models"]


@pytest.fixture
def session(adders):
    session = SavedModelSession(adders / "adder/1", timeout_ms=500)
    yield session
    session.close()


def test_requests_that_come_together_share_what_a_signature_needs(session, monkeypatch):
    """Twelve first requests would else prepare the same signature twelve times, a second or more each."""
    made = []
    make = session._make_callable

    def slowly(*arguments):
        made.append(arguments)
        threading.Event().wait(0.2)
        return make(*arguments)

    monkeypatch.setattr(session, "_make_callable", slowly)
    answers = []

    def ask():
        answers.append(session.run("serving_default", {"x": np.float32([[1, 2]])})["y"].tolist())

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[[2, 3]]] * 12
    assert len(made) == 1


def test_a_run_is_given_up(session):
    with pytest.raises(tf.errors.DeadlineExceededError):
        session.run("count", {"n": np.int64([10**9])})


def test_shapes_are_checked_before_the_graph(session):
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected shape"):
        session.run("serving_default", {"x": np.float32([1, 2])})
