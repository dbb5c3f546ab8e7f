"""A program written out as serial Numba kernels over a range of neurons.

A kernel works through items: blocks of neighbouring neurons of one sample (a row). For one block it runs all T steps, so
the state stays in the cache, and the inner loop over the block is plain arithmetic on neighbouring numbers, which
becomes vector instructions (`cpu_block.py`). Backward runs a block forward again from a kept state, every `SEGMENT` steps one, puts what the
minimum cut asks for into a buffer that stays in the cache, and goes back through the steps: nothing but the input and those
few states is kept in memory. A few short steps need no buffer: one loop runs a neuron forward and back in registers.
"""

from __future__ import annotations

from collections.abc import Sequence

from neuro.kernels.cpu_block import PITCH, READ, SINGLE, WORK, WRITTEN, Block, Carried, Layout, Row
from neuro.kernels.cut import minimum_cut
from neuro.kernels.derivative import Backward
from neuro.kernels.expression import Node
from neuro.kernels.program import Program, needed
from neuro.kernels.writing import MARK, Ends

SEGMENT = 16  # steps between kept states
SHARED = ["T", "C", "block", "counter", "items", "chunk"]  # the arguments after the arrays: sizes, and what threads share the items by


def forward_source(program: Program, layout: Layout, keep: bool, after: bool = True) -> tuple[str, int]:
    """Source of `forward`, and how many numbers it holds for one neuron.

    keep: it writes the states that backward starts from. after: it writes the states afterwards.
    """
    states = range(program.states)
    arguments = [f"x{k}" for k in range(program.inputs)] + [f"s{k}" for k in states] + [f"p{k}" for k in range(program.params)] + ["numbers"]
    arguments += ["lengths"] * layout.lengths + [f"y{k}" for k in range(len(program.outputs))] + [f"e{k}" for k in states] * after
    arguments += [f"c{k}" for k in states] * keep + SHARED
    block = Block(program.nodes, layout)
    text = block.text
    order = needed(program.nodes, (*program.outputs, *program.after))
    reads, carried = _inputs(block, order), _states(block, program, order)
    writes = [Row(f"y{k}r", f"row(y{k}, {{t}}, r, left)", i, layout.half) for k, i in enumerate(program.outputs)]

    text(MARK)
    with text.block(f"def forward({', '.join(arguments)}):"):
        text("work = scratch(WORK)")
        block.rounded_numbers()
        with block.items():
            if block.is_whole(order):
                _through(block, program, order, reads, writes, carried, after)
                return block.source(), len(block.places)
            _begin(block, program)
            with text.block(f"for t in range(0, steps, {(copies := block.copies(order))}):"):
                if keep:
                    with text.block(f"if (t > 0) & (t % {SEGMENT} == 0):"):
                        for k in states:
                            block.store(f"row(c{k}, t // {SEGMENT} - 1, r, left)", f"v{k}")
                block.steps(copies, "+", order, reads, writes, carried)
            if layout.lengths:
                with text.block("for t in range(steps, T):"):
                    for k in range(len(program.outputs)):
                        block.silence(f"row(y{k}, t, r, left)")
            for k in states if after else ():
                block.store(f"row(e{k}, r, left)", f"v{k}")
    return block.source(), len(block.places)


def backward_source(program: Program, backward: Backward, layout: Layout, ends: Ends) -> tuple[str, int]:
    """Source of `backward`, and how many numbers it holds for one neuron."""
    states, nodes = range(program.states), backward.nodes
    forward = nodes[: backward.forward]
    cut = [i for i in minimum_cut(forward, backward.reads, x_cost=0.5, width=4, spike_cost=4) if nodes[i].op != "x"]
    order = needed(nodes, backward.roots(), given=cut)
    block = Block(nodes, layout)
    text, whole = block.text, block.is_whole(every := needed(nodes, (*backward.roots(), *program.after)))
    gys = [f"g{k}" for k, has in enumerate(ends.y) if has]
    gxs = [f"h{k}" for k, i in enumerate(backward.x) if i is not None]
    summed = [k for k, i in enumerate(backward.params) if i is not None]
    arguments = [f"x{k}" for k in range(program.inputs)] + [f"s{k}" for k in states] + [f"p{k}" for k in range(program.params)] + ["numbers"]
    arguments += ["lengths"] * layout.lengths + [f"c{k}" for k in states] + gys + [f"d{k}" for k in states] * ends.after + gxs + [f"b{k}" for k in states] * ends.before
    arguments += [f"q{k}" for k in summed] + SHARED
    text(MARK)
    with text.block(f"def backward({', '.join(arguments)}):"):
        text("work = scratch(WORK)")
        if cut and not whole:
            text(f"buffer = scratch({SEGMENT * len(cut) * PITCH})")
        block.rounded_numbers()
        with block.items():
            if whole:
                _there_and_back(block, program, backward, every, ends, summed)
                return block.source(), len(block.places)
            for k in states:
                if ends.after:
                    block.load(f"row(d{k}, r, left)", f"u{k}")
                else:
                    block.fill(f"u{k}", "ZERO")
            for k in summed:
                block.fill(f"w{k}", "ZERO")
            for h in gxs if layout.lengths else ():
                with text.block("for t in range(steps, T):"):
                    block.silence(f"row({h}, t, r, left)")
            with text.block(f"for segment in range((steps + {SEGMENT - 1}) // {SEGMENT} - 1, -1, -1):"):
                text(f"first = segment * {SEGMENT}")
                text(f"last = min(first + {SEGMENT}, steps)")
                if cut:
                    _again(block, program, cut, forward)
                _back(block, backward, order, cut, summed)
            for k in states if ends.before else ():
                block.store(f"row(b{k}, r, left)", f"u{k}")
            for k in summed:
                _sum_up(block, k)
    return block.source(), len(block.places) + SEGMENT * len(cut)


def _through(block: Block, program: Program, order: Sequence[int], reads: Sequence[Row], writes: Sequence[Row], carried: Sequence[Carried], after: bool) -> None:
    """All steps in one loop."""
    text, steps, states = block.text, range(block.layout.whole), range(program.states)
    for u in steps:
        block.rows(u, str(u), (*reads, *writes))
    first = _first(block, program)
    for k in states if after else ():
        text(f"e{k}r = row(e{k}, r, left)")
    with text.block("for i in range(n):"):
        for k, value in enumerate(first):
            text(f"v{k} = {value}")
        block.params(order)
        for u in steps:
            block.step(u, order, reads, carried)
            block.write(u, writes, u, len(steps))
            block.carry(u, carried)
        for k in states if after else ():
            text(f"poke(e{k}r, i, v{k}, {block.written(len(writes) * len(steps) + k)})")


def _there_and_back(block: Block, program: Program, backward: Backward, order: Sequence[int], ends: Ends, summed: Sequence[int]) -> None:
    """All steps forward and back in one loop."""
    text, steps, states = block.text, range(block.layout.whole), range(program.states)
    forth = [i for i in order if i < backward.forward]
    back = [i for i in order if i >= backward.forward]
    reads, carried = _inputs(block, forth), _states(block, program, forth)
    gradients, writes, carried_back = _gradients(block, back), _results(block, backward), _carried_back(block, backward, back, summed)
    for u in steps:
        block.rows(u, str(u), (*reads, *gradients, *writes))
    first = _first(block, program)
    for name, has in (("d", ends.after), ("b", ends.before)):
        for k in states if has else ():
            text(f"{name}{k}r = row({name}{k}, r, left)")
    with text.block("for i in range(n):"):
        for k, value in enumerate(first):
            text(f"v{k} = {value}")
        block.params(order)
        for u in steps:
            block.step(u, forth, reads, carried)
            block.carry(u, carried)
        for k in states:
            text(f"u{k} = " + (f"peek(d{k}r, i, {READ})" if ends.after else "ZERO"))
        for k in summed:
            text(f"w{k} = ZERO")
        for u in reversed(steps):
            block.step(u, back, gradients, carried_back)
            block.write(u, writes, u, len(steps))
            block.carry(u, carried_back)
        for k in states if ends.before else ():
            text(f"poke(b{k}r, i, u{k}, {block.written(len(writes) * len(steps) + k)})")
        for k in summed:
            text(f"poke(work, {block.at(f'w{k}')} + i, w{k}, {WORK})")
    for k in summed:
        _sum_up(block, k)


def _first(block: Block, program: Program) -> list[str]:
    """A neuron's states before the first step."""
    alike = block.layout.alike
    for k in range(program.states):
        block.text(f"same{k} = s{k}[0]" if alike else f"s{k}r = row(s{k}, r, left)")
    return [f"same{k}" if alike else f"peek(s{k}r, i, {READ})" for k in range(program.states)]


def _inputs(block: Block, order: Sequence[int]) -> list[Row]:
    """Those that the nodes in `order` read."""
    found = [(int(block.nodes[i].value), i) for i in order if block.nodes[i].op == "x"]  # type: ignore[arg-type]
    return [Row(f"x{k}r", f"row(x{k}, {{t}}, r, left)", i, block.layout.half) for k, i in found]


def _states(block: Block, program: Program, order: Sequence[int]) -> list[Carried]:
    leaves = {int(block.nodes[i].value): i for i in order if block.nodes[i].op == "state"}  # type: ignore[arg-type]
    return [Carried(f"v{k}", leaves.get(k), f"@{i}") for k, i in enumerate(program.after)]


def _begin(block: Block, program: Program) -> None:
    """The states before the first step."""
    for k in range(program.states):
        if block.layout.alike:
            block.text(f"same{k} = s{k}[0]")
            block.fill(f"v{k}", f"same{k}")
        else:
            block.load(f"row(s{k}, r, left)", f"v{k}")


def _again(block: Block, program: Program, cut: Sequence[int], forward: Sequence[Node]) -> None:
    """Run the steps of a segment forward and put what the cut asks for into the buffer."""
    text = block.text
    order = needed(forward, (*cut, *program.after))
    with text.block("if segment == 0:"):
        _begin(block, program)
    with text.block("else:"):
        for k in range(program.states):
            block.load(f"row(c{k}, segment - 1, r, left)", f"v{k}")
    reads, carried = _inputs(block, order), _states(block, program, order)
    writes = [Row(f"kept{j}", f"row(buffer, (({{t}} - first) * {len(cut)} + {j}) * {PITCH})", i, kept=True) for j, i in enumerate(cut)]
    with text.block(f"for t in range(first, last, {(copies := block.copies(order))}):"):
        block.steps(copies, "+", order, reads, writes, carried)


def _back(block: Block, backward: Backward, order: Sequence[int], cut: Sequence[int], summed: Sequence[int]) -> None:
    """Go back through the steps of a segment."""
    nodes = backward.nodes
    used = [i for i in cut if any(i in nodes[j].args for j in order) or i in backward.roots()]
    order = [*used, *order]
    reads = [Row(f"kept{j}", f"row(buffer, (({{t}} - first) * {len(cut)} + {j}) * {PITCH})", i, kept=True) for j, i in enumerate(cut) if i in used]
    reads += [*_inputs(block, order), *_gradients(block, order)]
    writes, carried = _results(block, backward), _carried_back(block, backward, order, summed)
    with block.text.block(f"for t in range(last - 1, first - 1, -{(copies := block.copies(order))}):"):
        block.steps(copies, "-", order, reads, writes, carried)


def _gradients(block: Block, order: Sequence[int]) -> list[Row]:
    """Those of the outputs."""
    found = [(block.nodes[i].value, i) for i in order if block.nodes[i].op == "grad_y"]
    return [Row(f"g{k}r", f"row(g{k}, {{t}}, r, left)", i, block.layout.half) for k, i in found]


def _results(block: Block, backward: Backward) -> list[Row]:
    """The inputs' gradients."""
    return [Row(f"h{k}r", f"row(h{k}, {{t}}, r, left)", i, block.layout.half) for k, i in enumerate(backward.x) if i is not None]


def _carried_back(block: Block, backward: Backward, order: Sequence[int], summed: Sequence[int]) -> list[Carried]:
    """The states' gradients, and the parameters' so far."""
    leaves = {int(block.nodes[i].value): i for i in order if block.nodes[i].op == "grad_state"}  # type: ignore[arg-type]
    carried = [Carried(f"u{k}", leaves.get(k), "ZERO" if i is None else f"@{i}") for k, i in enumerate(backward.state)]
    return carried + [Carried(f"w{k}", None, f"$ + @{backward.params[k]}") for k in summed]


def _sum_up(block: Block, k: int) -> None:
    """A parameter's gradient over the steps of this block: its sum, or one value per neuron."""
    if block.layout.params[k] in SINGLE:
        begin = block.at(f"w{k}")
        block.text(f"poke(row(q{k}, 0), item, total(row(work, {begin}), n), {1 << WRITTEN[0]})")
    else:
        block.store(f"row(q{k}, r, left)", f"w{k}")
