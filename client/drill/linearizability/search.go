package linearizability

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"dems"
	"dems/client/drill/history"
)

// verdict is what a search for an order found.
type verdict int

const (
	explained   verdict = iota + 1 // there is an order that explains every answer
	unexplained                    // there is none
	undecided                      // the search ended before it knew
)

// brake ends a search: when its context is done, its time is up, or it remembers too much. Porcupine's own timeout would bound
// no memory, and not wait for its goroutine.
type brake struct {
	ctx      context.Context
	deadline time.Time
	memory   int64 // bytes that may still be used, about
	each     int64 // bytes that Porcupine and the model remember of one step that is possible
	steps    uint64
	reason   string
}

// clockSteps is after how many steps the clock is looked at again.
const clockSteps = 256

// stepBytes is about how much is remembered of a step, in bytes, besides a bit for each operation.
const stepBytes = 800

func newBrake(ctx context.Context, timeout time.Duration, memory int64, operations int) *brake {
	return &brake{ctx: ctx, deadline: time.Now().Add(timeout), memory: memory, each: stepBytes + int64(operations)/8}
}

// pulled tells, before each step, whether the search has to end.
func (b *brake) pulled() bool {
	b.steps++
	switch {
	case b.reason != "":
	case b.memory < 0:
		b.reason = "there are too many orders to try them all"
	case b.steps%clockSteps != 1:
	case errors.Is(b.ctx.Err(), context.DeadlineExceeded):
		b.reason = "the time for all groups was up"
	case b.ctx.Err() != nil:
		b.reason = "the check was ended"
	case !time.Now().Before(b.deadline):
		b.reason = "the time for one group was up"
	}
	return b.reason != ""
}

// noLimit is the brake of a search that is known to end soon.
func noLimit() *brake { return newBrake(context.Background(), math.MaxInt64, math.MaxInt64, 0) }

// search looks for an order of the operations of one group. What is not answered in it is unknown.
type search struct {
	operations []input
	answered   int
	// alongLog: answered mutations are placed in the order of their sequences alone, in which a server that tells the truth has
	// applied them. That leaves few orders to try. One that is found is as good as any.
	alongLog bool
	brake    *brake
}

// input is an operation as the model is given it.
type input struct {
	*history.Operation
	ordered bool // it is an answered mutation with a sequence
	earlier int  // ordered ones that have smaller sequences
}

// position is how far an order has come.
type position struct {
	state    *state
	answered int // how many answered operations are placed
	ordered  int // how many of them are ordered
}

func newSearch(operations []history.Operation, alongLog bool, brake *brake) *search {
	s := &search{operations: make([]input, len(operations)), alongLog: alongLog, brake: brake}
	var sequences []uint64
	for i := range operations {
		o := input{Operation: &operations[i]}
		if o.Outcome == history.Answered {
			s.answered++
			if o.ordered = o.Command.Op.Mutates() && o.Result.Sequence != 0; o.ordered {
				sequences = append(sequences, o.Result.Sequence)
			}
		}
		s.operations[i] = o
	}
	slices.Sort(sequences)
	for i := range s.operations {
		if o := &s.operations[i]; o.ordered {
			o.earlier, _ = slices.BinarySearch(sequences, o.Result.Sequence)
		}
	}
	return s
}

// model returns the search as Porcupine wants it. An operation is an input; its answer is in it.
func (s *search) model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return &position{state: &state{}} },
		Step: func(at, operation, _ any) (bool, any) {
			if s.brake.pulled() {
				return false, nil
			}
			next := s.step(at.(*position), operation.(*input))
			if next == nil {
				return false, nil
			}
			s.brake.memory -= s.brake.each
			return true, next
		},
		Equal: func(a, b any) bool { return a.(*position).state.equal(b.(*position).state) },
		Hash:  func(at any) uint64 { return at.(*position).state.hash },

		DescribeOperation: func(operation, _ any) string { return describe(operation.(*input).Operation) },
		DescribeState:     func(at any) string { return at.(*position).state.String() },
	}
}

// step returns the position after an operation that takes effect at a position, nil if it cannot have been answered as it was.
//
// One that is unknown takes effect, or it never does. It never does when nothing but such operations is left: at the end it
// may be placed whatever becomes of it. Before that it is placed only where it changes something, because one that changes
// nothing might as well come later.
func (s *search) step(at *position, o *input) *position {
	unknown := o.Outcome != history.Answered
	switch {
	case unknown && at.answered == s.answered:
		return at
	case s.alongLog && o.ordered && at.ordered < o.earlier:
		return nil
	}
	next := *at
	var result dems.Result
	next.state, result = at.state.do(&o.Command)
	if unknown {
		if next.state.equal(at.state) {
			return nil
		}
		return &next
	}
	if !sameAnswer(&result, &o.Result) {
		return nil
	}
	next.answered++
	if o.ordered {
		next.ordered++
	}
	return &next
}

// sameAnswer tells whether a client cannot tell two results apart. The sequence is not the rules' business, and a replayed
// result is the one that was given before.
func sameAnswer(a, b *dems.Result) bool {
	return a.Code == b.Code && a.Outcome == b.Outcome && a.Event == b.Event && a.Booking == b.Booking && a.Old == b.Old &&
		a.Customer == b.Customer && a.Type == b.Type &&
		slices.Equal(a.Affected, b.Affected) && slices.Equal(a.Events, b.Events) && slices.Equal(a.Bookings, b.Bookings)
}

// history returns the operations as Porcupine wants them. What is unknown may take effect at any time after its call.
func (s *search) history() []porcupine.Operation {
	operations := make([]porcupine.Operation, len(s.operations))
	for i := range s.operations {
		o := &s.operations[i]
		operations[i] = porcupine.Operation{ClientId: o.Client, Input: o, Call: int64(o.Call), Return: int64(o.Return)}
		if o.Outcome != history.Answered {
			operations[i].Return = math.MaxInt64
		}
	}
	return operations
}

// run searches.
func (s *search) run() verdict {
	switch {
	case porcupine.CheckOperations(s.model(), s.history()):
		return explained
	case s.brake.reason != "":
		return undecided
	}
	return unexplained
}

// order returns an order that explains all answers, as places in operations; false if none was found.
func (s *search) order() ([]int, bool) {
	result, info := porcupine.CheckOperationsVerbose(s.model(), s.history(), 0)
	if result != porcupine.Ok {
		return nil, false
	}
	if orders := info.PartialLinearizations()[0]; len(orders) > 0 {
		return orders[0], true
	}
	return nil, true // of nothing
}
