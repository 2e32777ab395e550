package main

import (
	"fmt"
	"strings"
	"time"

	"dems/client/drill"
	"dems/client/drill/report"
)

// mostRounds is how many rounds are printed; the report has all of them.
const mostRounds = 50

// describeProgress says in one line how far a drill is.
func describeProgress(progress *drill.Progress) string {
	where := ""
	if progress.Scenario != "" {
		where = fmt.Sprintf("round %d", progress.Round)
		if progress.Rounds > 0 {
			where += fmt.Sprintf(" of %d", progress.Rounds)
		}
		where += ", " + progress.Scenario + ": "
	}
	leader := progress.Leader
	if leader == "" {
		leader = "nobody"
	}
	return fmt.Sprintf("%5.0f s  %6.0f operations/s  %5d failed  %s leads  %s%s", progress.Elapsed.Seconds(), progress.PerSecond, progress.Failed,
		leader, where, progress.Doing)
}

// describeRound says in one line what came of a round.
func describeRound(round *report.Round) string {
	text := fmt.Sprintf("%s, round %d: %s", round.Scenario, round.Number, round.What)
	for _, part := range []struct {
		name         string
		milliseconds float64
	}{{"elected", round.ElectMS}, {"convicted", round.ConvictMS}, {"repaired", round.RepairMS}} {
		if part.milliseconds > 0 {
			text += fmt.Sprintf("; %s after %v", part.name, time.Duration(part.milliseconds*float64(time.Millisecond)).Round(time.Millisecond))
		}
	}
	if round.EndedAt == 0 {
		text += "; not whole again"
	}
	return text
}

// writeDrill prints a report for people.
func writeDrill(page *page, r *report.Report) {
	page.line("Drill %s, %d rounds in %.0f s, seed %d", printable(r.Scenario), len(r.Rounds), r.Seconds, r.Seed)
	page.line("%s", printable(r.Cluster))
	page.line("")
	writeRounds(page, r.Rounds)
	writeSummaries(page, r)
	page.table([]string{"OPERATIONS", "TRIED", "ACKNOWLEDGED", "REFUSED", "FAILED", "UNKNOWN"}, [][]cell{
		cells("all", r.Operations.Tried, r.Operations.Acknowledged, r.Operations.Refused, r.Operations.Failed, r.Operations.Unknown),
	})
	page.line("")
	page.table([]string{"ANSWERED", "COUNT", "P50 MS", "P99 MS", "MAX MS", "LONGEST PAUSE MS"}, [][]cell{
		serviceRow("writes", &r.Writes), serviceRow("reads", &r.Reads),
	})
	page.line("")
	writeInvariants(page, r)
	for _, note := range r.Notes {
		page.line("Note: %s", printable(note))
	}
	for _, name := range r.Kept {
		page.line("Kept: %s", printable(name))
	}
	if r.Passed {
		page.line("%s", page.coloured(green, "Passed"))
		return
	}
	page.line("%s: %s", page.coloured(red, "Not passed"), printable(strings.Join(r.Objections(), "; ")))
}

// writeRounds prints what came of each round.
func writeRounds(page *page, rounds []report.Round) {
	if len(rounds) == 0 {
		return
	}
	rows := make([][]cell, 0, len(rounds))
	for i := range min(len(rounds), mostRounds) {
		round := &rounds[i]
		rows = append(rows, []cell{
			{text: round.Scenario}, {text: fmt.Sprint(round.Number)}, {text: round.What}, whole(round.ElectMS), whole(round.ConvictMS), whole(round.RepairMS),
			{text: fmt.Sprintf("%.0f", round.WritePauseMS)}, {text: fmt.Sprintf("%.0f", round.ReadPauseMS)},
		})
	}
	head := []string{"SCENARIO", "ROUND", "WHAT", "ELECTED MS", "CONVICTED MS", "REPAIRED MS", "WRITE PAUSE MS", "READ PAUSE MS"}
	page.rows(&columns{
		head: head, widths: make([]int, len(head)), numeric: []bool{false, true, false, true, true, true, true, true},
	}, rows)
	if left := len(rounds) - mostRounds; left > 0 {
		page.line("and %d more rounds; the report has all", left)
	}
	page.line("")
}

// writeSummaries prints what the rounds of each scenario have in common: of each time the median and the largest.
func writeSummaries(page *page, r *report.Report) {
	if len(r.Rounds) < 2 {
		return
	}
	both := func(of report.Spread) cell {
		if of.Count == 0 {
			return cell{text: "-"}
		}
		return cell{text: fmt.Sprintf("%.0f / %.0f", of.MedianMS, of.MaxMS)}
	}
	var rows [][]cell
	for _, s := range r.Summaries() {
		rows = append(rows, []cell{
			{text: s.Scenario}, {text: fmt.Sprint(s.Rounds)}, both(s.Elect), both(s.Convict), both(s.Repair), both(s.WritePause), both(s.ReadPause),
		})
	}
	head := []string{"MEDIAN / MAX", "ROUNDS", "ELECTED MS", "CONVICTED MS", "REPAIRED MS", "WRITE PAUSE MS", "READ PAUSE MS"}
	page.rows(&columns{head: head, widths: make([]int, len(head)), numeric: []bool{false, true, true, true, true, true, true}}, rows)
	page.line("")
}

// whole is a cell for a time that may not apply.
func whole(milliseconds float64) cell {
	if milliseconds == 0 {
		return cell{text: "-"}
	}
	return cell{text: fmt.Sprintf("%.0f", milliseconds)}
}

func serviceRow(name string, of *report.Service) []cell {
	row := cells(name, of.Answered)
	for _, milliseconds := range []float64{of.P50MS, of.P99MS, of.MaxMS, of.LongestPauseMS} {
		row = append(row, cell{text: fmt.Sprintf("%.1f", milliseconds)})
	}
	return row
}

// writeInvariants prints what must hold, how often it did not, and the first of that.
func writeInvariants(page *page, r *report.Report) {
	rows := make([][]cell, 0, len(r.Invariants)+1)
	for _, invariant := range r.Invariants {
		rows = append(rows, []cell{{text: invariant.Name}, tally(invariant.Broken)})
	}
	rows = append(rows, []cell{{text: "undecided"}, tally(uint64(r.Histories.Undecided))})
	page.table([]string{"INVARIANT", "BROKEN"}, rows)
	page.line("")
	page.line("Checked for linearizability: %d histories of %d operations, in %.1f s", r.Histories.Checked, r.Histories.Operations, r.Histories.Seconds)
	for _, invariant := range r.Invariants {
		if invariant.Broken > 0 {
			writeBroken(page, invariant)
		}
	}
	for _, example := range r.Histories.Examples {
		page.line("%s", printable(example))
	}
}

// writeBroken prints what has to hold and did not.
func writeBroken(page *page, invariant report.Invariant) {
	page.line("%s, %d: %s", page.coloured(red, printable(invariant.Name)), invariant.Broken, printable(invariant.Meaning))
	for _, example := range invariant.Examples {
		page.line("  %s", printable(example))
	}
}

// tally is a cell for how often an invariant was broken.
func tally(count uint64) cell {
	colour := green
	if count > 0 {
		colour = red
	}
	return cell{text: fmt.Sprint(count), colour: colour}
}
