package linearizability

import (
	"cmp"
	"fmt"
	"slices"

	"dems/client/drill/history"
)

// Disorder is two operations of which the log has the later one first.
type Disorder struct {
	Earlier history.Operation // was answered before the later one was sent
	Later   history.Operation // mutates
}

// String returns a sentence for people.
func (d Disorder) String() string {
	return fmt.Sprintf("%s was answered before %s was sent, but has sequence %d, and the later one %d.",
		describe(&d.Earlier), describe(&d.Later), d.Earlier.Result.Sequence, d.Later.Result.Sequence)
}

// CheckSequences checks the log indexes that clients were told against real time, over all groups, and returns those
// operations whose index is too low, each with an earlier one that shows it, in the order of the calls. It is cheap, and sees
// what the answers do not show: an order in the log that is not the one in which clients acted.
//
// What is answered before a mutation is sent has a smaller sequence than that: the index of an entry that was applied, or at
// which a read's answer holds on a node, is in the log by then, and the mutation's entry comes after. That is true of replayed
// results as well, because an operation's attempts all come after its call, provided no two operations have one key. Nothing is
// said of reads that come later: a read's sequence is some index at which its answer holds, and one that nothing has touched
// since may truthfully name an old one.
func CheckSequences(operations []history.Operation) []Disorder {
	var answered []*history.Operation
	for i := range operations {
		if o := &operations[i]; o.Outcome == history.Answered && o.Result.Sequence != 0 {
			answered = append(answered, o)
		}
	}
	byReturn := slices.Clone(answered)
	slices.SortStableFunc(byReturn, func(a, b *history.Operation) int { return cmp.Compare(a.Return, b.Return) })
	slices.SortStableFunc(answered, func(a, b *history.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var disorders []Disorder
	var largest *history.Operation // of those that were answered before the call
	for _, o := range answered {
		for len(byReturn) > 0 && byReturn[0].Return < o.Call {
			if largest == nil || byReturn[0].Result.Sequence > largest.Result.Sequence {
				largest = byReturn[0]
			}
			byReturn = byReturn[1:]
		}
		if largest != nil && o.Command.Op.Mutates() && largest.Result.Sequence >= o.Result.Sequence {
			disorders = append(disorders, Disorder{Earlier: *largest, Later: *o})
		}
	}
	return disorders
}
