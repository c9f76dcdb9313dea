"""Tables in the terminal that never cut what they show."""

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.segment import Segments
from rich.table import Table


def new_table(title: str) -> Table:
    """A table of the house's looks, without columns."""
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def print_table(console: Console, table: Table, *, wrap: bool = True) -> None:
    """A line that the terminal wraps is better than a word or a number that is cut.

    Args:
        console: Where to.
        table: What.
        wrap: Whether cells may be wrapped between words to fit; if not, the table is as wide as it wants to be.
    """
    for column in table.columns:  # rich would cut a word to share the room fairly
        words = " ".join(str(cell) for cell in column.cells).split() or [""]
        column.min_width = max(map(cell_len, words))
    room = console.options.update(width=100_000)
    measured = Measurement.get(console, room, table)
    width = max(console.width, measured.minimum if wrap else measured.maximum)
    segments = console.render(table, console.options.update(width=width))
    console.print(Segments(segments), crop=False, soft_wrap=True, end="")
