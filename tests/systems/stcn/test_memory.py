"""The memory of STCN: what it keeps, what it gives up, and that its room is written in place."""

import pytest
import torch

from systems.stcn.affinity import memory_terms, query_terms
from systems.stcn.memory import FIRST_ROOM, MemoryBank


def frame(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Terms (4, 3) and values (4, 2) of a frame of four cells; all values are its number."""
    generator = torch.Generator().manual_seed(number)
    return memory_terms(torch.randn(2, 4, generator=generator)), torch.full((4, 2), float(number))


def kept(bank: MemoryBank) -> list[int]:
    """The numbers of the frames in memory."""
    return sorted(bank.state_dict()["values"][:, 0, 0].int().tolist())


@pytest.mark.parametrize(
    ("most", "expected"),
    [(0, list(range(30))), (1, [0]), (2, [0, 29]), (4, [0, 27, 28, 29]), (99, list(range(30)))],
)
def test_the_first_and_the_latest_frames_stay(most, expected):
    bank = MemoryBank(most)
    for number in range(30):
        bank.add(*frame(number))
    assert kept(bank) == expected and bank.num_frames == len(expected)


def test_a_temporary_frame_is_read_until_the_next_comes():
    bank = MemoryBank(3)
    for number in range(9):
        bank.add(*frame(number), temporary=number % 2 == 1)
        assert (number in kept(bank)) and bank.num_frames <= 3
        assert not {other for other in kept(bank) if other % 2 == 1} - {number}
    assert kept(bank) == [0, 6, 8]


def test_a_bound_memory_is_written_in_place():
    bank = MemoryBank(5)
    for number in range(6):
        bank.add(*frame(number))
    room = bank.values.data_ptr(), len(bank.values)
    for number in range(6, 50):
        bank.add(*frame(number), temporary=number % 3 > 0)
        assert (bank.values.data_ptr(), len(bank.values)) == room
    assert room[1] == 6  # with a temporary one


def test_room_doubles_where_there_is_no_bound():
    bank, rooms = MemoryBank(), set()
    for number in range(5 * FIRST_ROOM):
        bank.add(*frame(number))
        rooms.add(len(bank.values))
    assert rooms == {FIRST_ROOM, 2 * FIRST_ROOM, 4 * FIRST_ROOM, 8 * FIRST_ROOM}


def test_only_frames_in_memory_are_read():
    bank = MemoryBank()
    bank.add(*frame(1))
    bank.add(*frame(3))
    bank.add(*frame(7), temporary=True)
    query = query_terms(torch.randn(2, 5))
    values = bank.read(query, 2)  # weights add up to 1 but for rounding
    assert ((values > 1 - 1e-5) & (values < 7 + 1e-5)).all()
    bank.add(*frame(3))
    bank.add(*frame(3))
    values = bank.read(query, 99)
    assert values.shape == (5, 2) and ((values > 1) & (values < 3)).all()


def test_a_memory_goes_on_from_its_state():
    for most in (0, 4):
        bank, other = MemoryBank(most), MemoryBank(most)
        for number in range(7):
            bank.add(*frame(number), temporary=number == 6)
        other.load_state_dict(bank.state_dict())
        query = query_terms(torch.randn(2, 5))
        for number in range(7, 12):
            assert other.read(query, 3).equal(bank.read(query, 3))
            bank.add(*frame(number))
            other.add(*frame(number))
        assert kept(bank) == kept(other)
