package report

import (
	"cmp"
	"slices"
	"strconv"
)

// table is a table of the page.
type table struct {
	ID      string
	Caption string
	Remark  string // about what it shows
	Head    []column
	Rows    [][]cell
	Empty   string // said where there are no rows
}

// column is the head of a column. Class says how its fields stand: number, to the right; tight, in one line.
type column struct{ Name, Class string }

// cell is one field. A tone is good, wary, bad, or nothing.
type cell struct {
	Text, Class, Tone string
	More              []string // lines below it
}

// add appends a row of texts.
func (t *table) add(texts ...string) {
	row := make([]cell, len(texts))
	for i, text := range texts {
		row[i] = cell{Text: text, Class: t.Head[i].Class}
	}
	t.Rows = append(t.Rows, row)
}

// heads makes the head of a table. Names that begin with # are those of numbers, with = those of what stands in one line.
func heads(names ...string) []column {
	list := make([]column, len(names))
	for i, name := range names {
		switch name[0] {
		case '#':
			list[i] = column{name[1:], "number"}
		case '=':
			list[i] = column{name[1:], "tight"}
		default:
			list[i] = column{Name: name}
		}
	}
	return list
}

func invariantTable(r *Report) table {
	t := table{
		ID: "invariants", Caption: "What has to hold whatever is broken", Head: heads("invariant", "meaning", "#broken"),
		Empty: "No invariant was checked.",
	}
	add := func(name, meaning string, broken uint64, examples []string) {
		t.add(plain(name), plain(meaning), number(broken))
		row := t.Rows[len(t.Rows)-1]
		row[1].More = plains(examples[:min(len(examples), mostExamples)])
		row[2].Tone = "good"
		if broken > 0 {
			row[2].Tone = "bad"
		}
	}
	for _, invariant := range r.Invariants {
		add(invariant.Name, invariant.Meaning, invariant.Broken, invariant.Examples)
	}
	if histories := r.Histories; histories.Checked > 0 {
		add("linearizable", "Each history of a group of events and customers has an order that explains all its answers. "+
			count(max(0, histories.Checked), "history", "histories")+" with "+count(max(0, histories.Operations), "operation", "operations")+
			" checked in "+took(histories.Seconds*1000)+".", uint64(max(0, histories.NotLinearizable)), histories.Examples)
		add("decided", "The check for linearizability came to an end in the time that it had.", uint64(max(0, histories.Undecided)), nil)
	}
	return t
}

func latencyTable(r *Report) table {
	t := table{
		ID: "latency", Caption: "Latency of what was answered, with all attempts",
		Head: heads("kind", "#tried", "#answered", "#p50", "#p99", "#p99.9", "#slowest", "#longest pause"),
	}
	for i, s := range []Service{r.Writes, r.Reads} {
		t.add([]string{"writes", "reads"}[i], number(s.Tried), number(s.Answered), took(s.P50MS), took(s.P99MS), took(s.P999MS),
			took(s.MaxMS), took(s.LongestPauseMS))
	}
	return t
}

func summaryTable(summaries []Summary, total Summary) table {
	t := table{
		ID: "scenarios", Caption: "Rounds by scenario", Remark: "Of several times the median and, after the stroke, the longest.",
		Head:  heads("=scenario", "#rounds", "#to elect", "#to convict", "#to repair", "#pause of writes", "#pause of reads", "#unanswered"),
		Empty: "There was no round.",
	}
	if len(summaries) > 1 {
		total.Scenario = "all together"
		summaries = append(slices.Clone(summaries), total)
	}
	for _, s := range summaries {
		t.add(plain(s.Scenario), number(s.Rounds), spread(s.Elect), spread(s.Convict), spread(s.Repair), spread(s.WritePause),
			spread(s.ReadPause), number(s.Unanswered))
		if never := s.Rounds - s.Ended; never > 0 {
			rounds := &t.Rows[len(t.Rows)-1][1]
			rounds.Tone, rounds.More = "bad", []string{number(never) + " not ended"}
		}
	}
	return t
}

func spread(s Spread) string {
	switch s.Count {
	case 0:
		return "–"
	case 1:
		return took(s.MaxMS)
	}
	return took(s.MedianMS) + " / " + took(s.MaxMS)
}

func roundTable(rounds []Round) table {
	t := table{
		ID: "rounds", Caption: "Rounds", Remark: "Times count from the failure on; – does not apply, or was not seen.",
		Head: heads("#no.", "=at", "=scenario", "what", "#to elect", "#to convict", "#to repair", "#until all is well", "#pause of writes",
			"#pause of reads", "#slowest write", "#slowest read", "#unanswered"),
		Empty: "There was no round.",
	}
	for i, r := range rounds {
		t.add(number(i+1), clock(r.At), plain(r.Scenario)+" "+strconv.Itoa(r.Number), plain(cmp.Or(r.What, r.Node)), seen(r.ElectMS),
			seen(r.ConvictMS), seen(r.RepairMS), seen((r.EndedAt-r.At)*1000), took(r.WritePauseMS), took(r.ReadPauseMS),
			took(r.SlowestWriteMS), took(r.SlowestReadMS), number(r.Unanswered))
		if r.EndedAt == 0 {
			ended := &t.Rows[i][7]
			ended.Text, ended.Tone = "not ended", "bad"
		}
	}
	return t
}

func incidentTable(incidents []Incident, rounds []Round) table {
	t := table{
		ID: "incidents", Caption: "Incidents that the cluster recorded",
		Head: heads("=at", "#sequence", "=kind", "=node", "=by", "detail", "#round"), Empty: "The cluster recorded no incident.",
	}
	for _, incident := range incidents {
		round := "–"
		if i := roundAt(rounds, incident.At); i >= 0 {
			round = number(i + 1)
		}
		t.add(clock(incident.At), strconv.FormatUint(incident.Sequence, 10), plain(incident.Kind), plain(incident.Node),
			plain(incident.By), plain(incident.Detail), round)
		t.Rows[len(t.Rows)-1][2].Tone = tones[incident.Kind]
	}
	return t
}

// roundAt returns the last round that had begun at a moment and had not ended; -1 if there is none.
func roundAt(rounds []Round, seconds float64) int {
	for i := len(rounds) - 1; i >= 0; i-- {
		if rounds[i].At <= seconds {
			if rounds[i].EndedAt == 0 || seconds <= rounds[i].EndedAt {
				return i
			}
			return -1
		}
	}
	return -1
}

func leaderTable(leaders []Leader) table {
	t := table{
		ID: "leaders", Caption: "Who led, as the front end saw it", Head: heads("=from", "=to", "=leader", "#term", "#for"),
		Empty: "It was not seen who led.",
	}
	for _, leader := range leaders {
		node, term := "nobody known", "–"
		if leader.Node != "" {
			node, term = plain(leader.Node), strconv.FormatUint(leader.Term, 10)
		}
		t.add(clock(leader.From), clock(leader.To), node, term, took((leader.To-leader.From)*1000))
	}
	return t
}
