package drill

import (
	"context"
	"slices"
	"time"

	"dems"
	"dems/client/drill/history"
	"dems/client/drill/linearizability"
	"dems/client/drill/report"
)

const (
	// judgeTimeout and judgeTime bound the check of a history: at least so long, and so long for every operation.
	judgeTimeout = 2 * time.Minute
	judgeTime    = time.Millisecond
)

// Judgement is what the checks of a history found.
type Judgement struct {
	Histories  report.Histories
	Wrong      report.Invariant // no answer is wrong
	Order      report.Invariant // the log has the order in which clients acted
	Violations []linearizability.Violation
}

// Judge checks a history for linearizability, and whether the log has the order in which clients acted.
func Judge(ctx context.Context, operations []history.Operation) Judgement {
	found := linearizability.Check(ctx, operations, linearizability.Options{
		Timeout: max(judgeTimeout, time.Duration(len(operations))*judgeTime),
	})
	histories := report.Histories{
		Checked: found.Groups, Operations: found.Operations, NotLinearizable: len(found.Violations), Undecided: len(found.Undecided),
		Seconds: found.Duration.Seconds(),
	}
	for _, undecided := range found.Undecided[:min(len(found.Undecided), mostExamples)] {
		histories.Examples = append(histories.Examples, undecided.String())
	}
	wrong := report.Invariant{
		Name:    "wrong answers",
		Meaning: "The clients of each group of events got what one server would have answered that does one thing after the other.",
		Broken:  uint64(len(found.Violations)),
	}
	for _, violation := range found.Violations[:min(len(found.Violations), mostExamples)] {
		wrong.Examples = append(wrong.Examples, violation.String())
	}
	return Judgement{Histories: histories, Wrong: wrong, Order: judgeOrder(operations), Violations: found.Violations}
}

func judgeOrder(operations []history.Operation) report.Invariant {
	disorders := linearizability.CheckSequences(operations)
	order := report.Invariant{
		Name:    "log out of order",
		Meaning: "What was answered before a change was asked for stands before that change in the log.",
		Broken:  uint64(len(disorders)),
	}
	for _, disorder := range disorders[:min(len(disorders), mostExamples)] {
		order.Examples = append(order.Examples, disorder.String())
	}
	return order
}

// conclude fills the report with what follows from everything that was seen.
func (d *drill) conclude(operations []history.Operation, judged Judgement) {
	d.report.Measure(operations)
	d.report.Histories = judged.Histories
	d.countUnanswered(operations)
	d.watch.read(func(s *sight) {
		d.weigh(s)
		d.report.Leaders, d.report.Incidents = leadersOf(s, d.report.Seconds), incidentsOf(s)
		if left := len(s.incidents) - len(d.report.Incidents); left > 0 {
			d.note("%d further incidents are not in the report.", left)
		}
	})
	if len(d.byHand) > 0 {
		d.note("Nodes were removed more than %d times within an hour and put into quarantine, as they have to be: %d times one was let in again by hand.",
			dems.MaxReplacementsPerHour, len(d.byHand))
	}
	if len(d.report.Rounds) == 0 && d.found[notDone].count == 0 {
		d.found[notDone].add("nothing was broken, so that nothing broke shows nothing")
	}
	d.report.Notes = append(d.report.Notes, d.load.Notes()...)
	d.report.Invariants = append(append(d.load.Findings(), judged.Wrong, judged.Order), d.found.list()...)
	d.report.Decide()
}

// countUnanswered counts the operations that failed or of which nobody knows what became. Every scenario leaves a majority, so there
// is no excuse.
func (d *drill) countUnanswered(operations []history.Operation) {
	for i := range operations {
		if o := &operations[i]; o.Outcome != history.Answered {
			d.found[unanswered].add("operation %d, %s by %s, sent at %v, was %s after %v: %s", o.Number, o.Command.Op, o.Command.By,
				o.Call.Round(time.Millisecond), o.Outcome, (o.Return - o.Call).Round(time.Millisecond), o.Error)
		}
	}
}

// accusing are the kinds of incident that say of a node that it is wrong.
var accusing = []string{
	dems.AccusationIncident.String(), dems.VerdictIncident.String(), dems.ConvictionIncident.String(),
	dems.RemovalIncident.String(), dems.QuarantineIncident.String(),
}

// weigh counts what was said of correct nodes, and answers and states that differed.
func (d *drill) weigh(s *sight) {
	for _, i := range s.incidents {
		of := life{i.Node, i.Incarnation}
		asked := i.Kind == dems.ConvictionIncident.String() && d.byHand[of]
		switch {
		case i.Kind == dems.NoMajorityIncident.String():
			d.found[noMajority].add("incident %d by %s: %s", i.Sequence, i.By, i.Detail)
		case slices.Contains(accusing, i.Kind) && !d.wrong[of] && !asked:
			d.found[accused].add("incident %d: %s of %s, incarnation %d, which is correct; by %s: %s", i.Sequence, i.Kind, i.Node, i.Incarnation, i.By, i.Detail)
		}
	}
	for _, example := range s.states.differ.examples {
		d.found[differingStates].add("%s", example)
	}
	d.found[differingStates].count += s.states.differ.count - uint64(len(s.states.differ.examples))
}

// leadersOf returns who led when, until the end.
func leadersOf(s *sight, end float64) []report.Leader {
	leaders := slices.Clone(s.leaders)
	if len(leaders) > 0 {
		leaders[len(leaders)-1].To = end
	}
	return slices.DeleteFunc(leaders, func(l report.Leader) bool { return l.From >= end })
}

// mostIncidents is how many incidents the report has, so that it can be read.
const mostIncidents = 20_000

// incidentsOf returns what happened, the first of it where that is too much.
func incidentsOf(s *sight) []report.Incident {
	var all []report.Incident
	for _, i := range s.incidents[:min(len(s.incidents), mostIncidents)] {
		all = append(all, report.Incident{
			At: i.at.Seconds(), Sequence: i.Sequence, Kind: i.Kind, Node: string(i.Node), By: i.By, Detail: i.Detail,
		})
	}
	return all
}
