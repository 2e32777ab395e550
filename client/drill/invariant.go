package drill

import (
	"fmt"

	"dems/client/drill/report"
)

// mostExamples is how many of the things that broke an invariant are told in full.
const mostExamples = 5

// tally counts what broke an invariant, and keeps the first of it.
type tally struct {
	count    uint64
	examples []string
}

func (t *tally) add(format string, arguments ...any) {
	if t.count++; len(t.examples) < mostExamples {
		t.examples = append(t.examples, fmt.Sprintf(format, arguments...))
	}
}

// invariant is one of those that the drill checks itself. Those of the requests are the traffic's.
type invariant int

// The invariants, in the order in which they are told.
const (
	unanswered invariant = iota
	differingStates
	accused
	notReplaced
	noMajority
	notResumed
	notDone
	invariantCount
)

var invariantTexts = [invariantCount]struct{ name, meaning string }{
	unanswered:      {"unanswered", "No operation fails, or stays without a definite answer, as long as a majority of the nodes is there."},
	differingStates: {"differing states", "Nodes that are not wrong on purpose have the same state at the same index, and all have at the end."},
	accused:         {"correct nodes accused", "No node is accused, convicted or removed that is correct, however late it is."},
	notReplaced:     {"wrong nodes not replaced", "Every node that is made wrong is convicted, removed, and votes again with the right state."},
	noMajority:      {"answers without a majority", "As long as at most one node is wrong, every question has an answer that most nodes gave."},
	notResumed:      {"not resumed", "After every failure somebody leads, clients are answered, and every node is a healthy voter again."},
	notDone:         {"rounds not done", "Every round broke what it was to break, and mended it."},
}

// invariants is what was found of each.
type invariants [invariantCount]tally

// list returns them as a report has them.
func (f *invariants) list() []report.Invariant {
	all := make([]report.Invariant, invariantCount)
	for i := range all {
		all[i] = report.Invariant{
			Name: invariantTexts[i].name, Meaning: invariantTexts[i].meaning, Broken: f[i].count, Examples: f[i].examples,
		}
	}
	return all
}
