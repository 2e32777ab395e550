package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"time"
)

// What the page shows at most; what is beyond is in report.json.
const (
	mostRounds    = 2000
	mostIncidents = 1000
	mostLeaders   = 2000
	mostScenarios = 50
	mostOthers    = 100 // invariants, files, notes, nodes
	mostExamples  = 10  // of one invariant
)

var (
	//go:embed page/page.html
	pageText string
	//go:embed page/timeline.html
	timelineText string
	//go:embed page/page.css
	pageStyle template.CSS

	pageTemplate = template.Must(template.Must(template.New("page").Parse(pageText)).New("timeline").Parse(timelineText))
)

// view is what the page shows.
type view struct {
	Style      template.CSS
	Scenario   string
	Seed       uint64
	Passed     bool
	Objections []string
	Facts      []fact
	Command    string
	Groups     []group
	Timeline   *timeline
	Tables     []table
	Folded     []table // of lesser interest
	Kept       []string
	Notes      []string
	Omitted    []string // what was left out
}

// fact is a name with what belongs to it.
type fact struct{ Name, Value string }

// group is figures that belong together.
type group struct {
	Name  string
	Tiles []tile
}

// tile is a figure that is worth being seen at once. A tone is good, bad, or nothing.
type tile struct{ Name, Value, Remark, Tone string }

// Page writes the report as one HTML file, which needs nothing else: no other file, no script, no network. Texts that came from
// the cluster are shown as they are, whatever they contain. Nothing is written if the error is not of w.
func Page(w io.Writer, r *Report) error {
	v := newView(r)
	var page bytes.Buffer
	if err := pageTemplate.ExecuteTemplate(&page, "page", v); err != nil {
		return fmt.Errorf("the page of the report: %w", err)
	}
	_, err := page.WriteTo(w)
	return err
}

func newView(r *Report) *view {
	v := &view{
		Style: pageStyle, Scenario: plain(r.Scenario), Seed: r.Seed, Command: plain(r.Command), Objections: plains(r.Objections()),
		Facts: facts(r), Groups: []group{invariantTiles(r), operationTiles(r), timeTiles(r)},
	}
	v.Passed = r.Passed && len(v.Objections) == 0
	shown := *r
	shown.Rounds = first(v, r.Rounds, mostRounds, "rounds")
	shown.Incidents = first(v, r.Incidents, mostIncidents, "incidents")
	shown.Leaders = first(v, r.Leaders, mostLeaders, "changes of the leader")
	shown.Slices = first(v, r.Slices, mostSlices, "slices of the timeline")
	shown.Invariants = first(v, r.Invariants, mostOthers, "invariants")
	summaries := first(v, r.Summaries(), mostScenarios, "scenarios")
	v.Kept = plains(first(v, r.Kept, mostOthers, "files"))
	v.Notes = plains(first(v, r.Notes, mostOthers, "notes"))
	v.Timeline = newTimeline(&shown)
	v.Tables = []table{
		invariantTable(&shown), latencyTable(r), summaryTable(summaries, r.Total()), roundTable(shown.Rounds),
		incidentTable(shown.Incidents, shown.Rounds),
	}
	v.Folded = []table{leaderTable(shown.Leaders)}
	return v
}

// first returns as much of a list as the page shows, and takes down what it does not.
func first[T any](v *view, list []T, most int, name string) []T {
	if len(list) <= most {
		return list
	}
	v.Omitted = append(v.Omitted, fmt.Sprintf("Of %s %s the first %s are shown.", number(len(list)), name, number(most)))
	return list[:most]
}

func plains(texts []string) []string {
	list := make([]string, len(texts))
	for i, text := range texts {
		list[i] = plain(text)
	}
	return list
}

func facts(r *Report) []fact {
	list := []fact{{"Took", took(r.Seconds * 1000)}}
	if !r.Began.IsZero() {
		list = append(list, fact{"Began", r.Began.UTC().Format(time.RFC1123)})
	}
	if r.Cluster != "" {
		list = append(list, fact{"Cluster", plain(r.Cluster)})
	}
	if len(r.Nodes) > 0 {
		list = append(list, fact{"Nodes", joined(r.Nodes)})
	}
	if r.Version != "" {
		list = append(list, fact{"demsctl", plain(r.Version)})
	}
	return list
}

// joined writes names with commas, as many as fit.
func joined(names []string) string {
	var text string
	for i, name := range names {
		if i > 0 {
			text += ", "
		}
		if len(text) > mostRunes {
			return text + "…"
		}
		text += plain(name)
	}
	return text
}

func invariantTiles(r *Report) group {
	g := group{Name: "Must be zero"}
	add := func(name string, broken uint64) {
		tone := "good"
		if broken > 0 {
			tone = "bad"
		}
		g.Tiles = append(g.Tiles, tile{Name: name, Value: number(broken), Tone: tone})
	}
	for i, invariant := range r.Invariants {
		if i == mostOthers {
			break
		}
		add(plain(invariant.Name), invariant.Broken)
	}
	if r.Histories.Checked > 0 {
		add("not linearizable", uint64(max(0, r.Histories.NotLinearizable)))
		add("undecided", uint64(max(0, r.Histories.Undecided)))
	} else {
		g.Tiles = append(g.Tiles, tile{Name: "not linearizable", Value: "–", Remark: "not checked"})
	}
	return g
}

func operationTiles(r *Report) group {
	o := r.Operations
	return group{Name: "Operations", Tiles: []tile{
		{Name: "tried", Value: number(o.Tried)}, {Name: "acknowledged", Value: number(o.Acknowledged), Remark: share(o.Acknowledged, o.Tried)},
		{Name: "refused by the rules", Value: number(o.Refused), Remark: share(o.Refused, o.Tried)},
		{Name: "failed", Value: number(o.Failed), Remark: share(o.Failed, o.Tried)},
		{Name: "unknown", Value: number(o.Unknown), Remark: share(o.Unknown, o.Tried)},
	}}
}

// share writes a part of a whole; nothing of no whole.
func share(part, whole uint64) string {
	percent := 100 * float64(part) / float64(whole)
	switch {
	case whole == 0:
		return ""
	case part > 0 && percent < 0.01:
		return "less than 0.01 %"
	case percent < 10:
		return fmt.Sprintf("%.2g %%", percent)
	case part < whole && percent > 99.9:
		return "more than 99.9 %"
	}
	return fmt.Sprintf("%.3g %%", percent)
}

func timeTiles(r *Report) group {
	total := r.Total()
	longest := func(name string, of Spread) tile {
		if of.Count == 0 {
			return tile{Name: name, Value: "–", Remark: "none seen"}
		}
		return tile{Name: name, Value: took(of.MaxMS), Remark: "median " + took(of.MedianMS) + " of " + number(of.Count)}
	}
	return group{Name: "Longest times", Tiles: []tile{
		{Name: "pause of writes", Value: took(r.Writes.LongestPauseMS), Remark: "p99 latency " + took(r.Writes.P99MS)},
		{Name: "pause of reads", Value: took(r.Reads.LongestPauseMS), Remark: "p99 latency " + took(r.Reads.P99MS)},
		longest("to elect a leader", total.Elect), longest("to convict", total.Convict), longest("to repair", total.Repair),
	}}
}
