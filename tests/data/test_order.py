import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_googlenet.data.order import Cursor, Order

COUNTS = st.integers(1, 200)


@given(COUNTS, st.integers(1, 40), st.integers(0, 5))
def test_an_epoch_takes_each_image_at_most_once_and_leaves_less_than_a_batch(count, batch_size, epoch):
    order = Order(count, batch_size, seed=1, epochs=9)
    taken = order.of_epoch(epoch)[:, 0]
    assert len(set(taken.tolist())) == len(taken) == order.steps * order.size
    assert 0 <= count - len(taken) < order.size <= batch_size


@given(COUNTS, st.integers(1, 40), st.data())
def test_an_epoch_can_be_entered_at_any_step(count, batch_size, data):
    order = Order(count, batch_size, seed=1, epochs=9)
    step = data.draw(st.integers(0, order.steps))
    np.testing.assert_array_equal(order.of_epoch(3, step), order.of_epoch(3)[step * order.size :])


@given(st.integers(8, 200), st.integers(8, 40), st.integers(1, 4))
def test_processes_share_each_batch(count, batch_size, processes):
    whole = Order(count, batch_size, seed=2, epochs=9, devices=processes)
    shares = [Order(count, batch_size, 2, 9, process, processes) for process in range(processes)]
    step = whole.size // processes
    for batch in range(whole.steps):
        together = [share.of_epoch(0)[batch * step : (batch + 1) * step] for share in shares]
        expected = whole.of_epoch(0)[batch * whole.size : (batch + 1) * whole.size]
        assert sorted(map(tuple, np.concatenate(together))) == sorted(map(tuple, expected))


def test_numbers_never_repeat_in_a_run():
    order = Order(30, 7, seed=0, epochs=5)
    numbers = np.concatenate([order.of_epoch(epoch)[:, 1] for epoch in range(5)])
    assert len(set(numbers.tolist())) == len(numbers)


def test_order_differs_between_epochs_and_seeds():
    orders = [
        Order(50, 5, seed, 9).of_epoch(epoch)[:, 0].tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_a_run_goes_on_at_its_cursor():
    order = Order(50, 5, 0, epochs=4)
    assert order.epochs_from(Cursor(1, 3)).tolist() == [[1, 3], [2, 0], [3, 0]]
    assert order.epochs_from(Cursor(2, 0)).tolist() == [[2, 0], [3, 0]]
    assert order.epochs_from(Cursor(4, 0)).tolist() == []


@given(st.lists(st.integers(0, 3), min_size=4, max_size=80), st.integers(0, 3))
def test_a_balanced_epoch_has_as_many_images_of_each_class(labels, epoch):
    labels = np.array(labels)
    order = Order(len(labels), 1, seed=1, epochs=9, labels=labels)
    taken = order.of_epoch(epoch)[:, 0]
    classes, counts = np.unique(labels[taken], return_counts=True)
    assert set(classes) == set(labels)
    assert counts.max() - counts.min() <= 1
    for label in classes:
        times = [np.count_nonzero(taken == member) for member in np.flatnonzero(labels == label)]
        assert max(times) - min(times) <= 1


def test_a_balanced_epoch_can_be_entered_at_any_step():
    labels = np.array([0] * 40 + [1] * 7 + [2] * 3)
    order, again = (Order(50, 5, 0, epochs=4, labels=labels) for _ in range(2))
    np.testing.assert_array_equal(again.of_epoch(2, 6), order.of_epoch(2)[30:])
    assert order.of_epoch(0)[:, 0].tolist() != order.of_epoch(1)[:, 0].tolist()
