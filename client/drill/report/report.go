// Package report is what a drill found: figures, broken invariants, a timeline. It owns what follows from a history by counting,
// the form of the report as JSON, and the page for people; demsctl prints the tables. It never talks to a cluster, it does not
// check answers, and it starts no goroutine.
package report

import (
	"encoding/json"
	"fmt"
	"time"
)

// Report is what a drill found. Times are seconds since it began, durations milliseconds. Who runs the drill fills it; Measure
// adds what the operations tell, and Decide the verdict.
type Report struct {
	Version  string    `json:"version"`           // of demsctl
	Scenario string    `json:"scenario"`          // as it was asked for: leader-kill, all, …
	Seed     uint64    `json:"seed"`              // repeats the same load and the same choices
	Command  string    `json:"command,omitempty"` // the command line that runs it again, for people to copy
	Cluster  string    `json:"cluster"`           // what it ran against, for people
	Nodes    []string  `json:"nodes"`
	Began    time.Time `json:"began"`
	Seconds  float64   `json:"seconds"` // how long it took; Measure raises it to the last return
	// Passed: there is no objection. See Objections.
	Passed     bool        `json:"passed"`
	Operations Operations  `json:"operations"`
	Invariants []Invariant `json:"invariants"`
	Histories  Histories   `json:"linearizability"`
	Writes     Service     `json:"writes"`
	Reads      Service     `json:"reads"`
	Rounds     []Round     `json:"rounds"`
	Slices     []Slice     `json:"timeline"`
	Leaders    []Leader    `json:"leaders"`
	Incidents  []Incident  `json:"incidents"`
	// Kept are the files that belong to the report.
	Kept []string `json:"kept"`
	// Notes are what a reader should know besides, for example that the drill was interrupted.
	Notes []string `json:"notes,omitempty"`
}

// Operations counts operations, each with all its attempts.
type Operations struct {
	Tried        uint64 `json:"tried"`
	Acknowledged uint64 `json:"acknowledged"` // done
	Refused      uint64 `json:"refused"`      // by the rules, which is an answer too
	Failed       uint64 `json:"failed"`       // certainly not applied
	Unknown      uint64 `json:"unknown"`      // may have been applied
}

// Invariant is something that has to hold whatever is broken.
type Invariant struct {
	Name     string   `json:"name"`               // lost, double-applied, oversold, wrong answers, …
	Meaning  string   `json:"meaning"`            // one sentence
	Broken   uint64   `json:"broken"`             // how often
	Examples []string `json:"examples,omitempty"` // the first few
}

// Histories is what the check for linearizability found. A history is that of one group of events and customers.
type Histories struct {
	Checked         int      `json:"checked"`
	Operations      int      `json:"operations"`
	NotLinearizable int      `json:"notLinearizable"`
	Undecided       int      `json:"undecided"` // the time was up
	Seconds         float64  `json:"seconds"`
	Examples        []string `json:"examples,omitempty"`
}

// Service is how writes or reads fared over the whole drill. Latencies are those of answered operations, all attempts together,
// and exact: P99MS is the smallest one that at least 99 of 100 do not exceed.
type Service struct {
	Tried          uint64  `json:"tried"`
	Answered       uint64  `json:"answered"` // done or refused
	P50MS          float64 `json:"p50Milliseconds"`
	P99MS          float64 `json:"p99Milliseconds"`
	P999MS         float64 `json:"p99.9Milliseconds"`
	MaxMS          float64 `json:"maxMilliseconds"`
	LongestPauseMS float64 `json:"longestPauseMilliseconds"` // the longest time in which none was answered although some waited
}

// Round is one failure and its repair. A time that does not apply, or was not seen, is 0. Rounds follow each other. What Measure
// fills is about the time between At and EndedAt; of a round that has not ended, until the next one begins or the drill ends.
type Round struct {
	Scenario string  `json:"scenario"`
	Number   int     `json:"number"` // within the scenario, from 1
	Node     string  `json:"node"`   // what was broken
	What     string  `json:"what"`   // for people: "killed the leader n2"
	At       float64 `json:"at"`     // when, in seconds
	HealedAt float64 `json:"healedAt"`
	EndedAt  float64 `json:"endedAt"` // when every node was a healthy voter again
	// From At on:
	ElectMS   float64 `json:"electMilliseconds"`   // until a new leader was seen
	ConvictMS float64 `json:"convictMilliseconds"` // until the conviction was seen
	RepairMS  float64 `json:"repairMilliseconds"`  // until the node voted again
	// Measure fills these:
	WritePauseMS   float64 `json:"writePauseMilliseconds"`   // the longest part of a pause
	ReadPauseMS    float64 `json:"readPauseMilliseconds"`    // the same
	SlowestWriteMS float64 `json:"slowestWriteMilliseconds"` // of those on their way that were answered at last
	SlowestReadMS  float64 `json:"slowestReadMilliseconds"`  // the same
	Unanswered     uint64  `json:"unanswered"`               // failed or unknown, of those on their way
}

// Slice is a piece of the timeline. All are equally wide, so the last one may reach beyond the end of the drill.
type Slice struct {
	From    float64 `json:"from"` // seconds
	To      float64 `json:"to"`
	Writes  uint64  `json:"writes"` // answered in it
	Reads   uint64  `json:"reads"`
	Failed  uint64  `json:"failed"`            // given up in it, as failed or unknown
	WriteMS float64 `json:"writeMilliseconds"` // the slowest that was answered in it
	ReadMS  float64 `json:"readMilliseconds"`  // the slowest
	P50MS   float64 `json:"p50Milliseconds"`   // of all
	P99MS   float64 `json:"p99Milliseconds"`
}

// Leader is a time in which a node led, as the front end saw it.
type Leader struct {
	Node string  `json:"node"` // "" where none was known
	Term uint64  `json:"term"`
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

// Incident is an incident that the cluster recorded during the drill.
type Incident struct {
	At       float64 `json:"at"` // seconds; when it was seen
	Sequence uint64  `json:"sequence"`
	Kind     string  `json:"kind"`
	Node     string  `json:"node,omitempty"`
	By       string  `json:"by,omitempty"`
	Detail   string  `json:"detail,omitempty"`
}

// Objections is what keeps the drill from having passed, one sentence for each, the worst first. An invariant that was never
// checked and a load that nobody served prove nothing, so they are objections too.
func (r *Report) Objections() []string {
	var objections []string
	for _, invariant := range r.Invariants {
		if invariant.Broken > 0 {
			objections = append(objections, fmt.Sprintf("%s: %s", invariant.Name, times(invariant.Broken)))
		}
	}
	if n := r.Histories.NotLinearizable; n > 0 {
		objections = append(objections, fmt.Sprintf("not linearizable: %d of %d histories", n, r.Histories.Checked))
	}
	if n := r.Histories.Undecided; n > 0 {
		objections = append(objections, fmt.Sprintf("undecided: %d of %d histories", n, r.Histories.Checked))
	}
	if len(r.Invariants) == 0 {
		objections = append(objections, "no invariant was checked")
	}
	if r.Operations.Acknowledged == 0 {
		objections = append(objections, "no operation was acknowledged")
	}
	return objections
}

// Decide sets Passed: no invariant is broken, every history is linearizable, everything could be decided, and there was something
// to decide.
func (r *Report) Decide() { r.Passed = len(r.Objections()) == 0 }

// times says how often.
func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// format is the version of the JSON form.
const format = 1

// file is the JSON form.
type file struct {
	Format int `json:"format"`
	fields
}

type fields Report // without its method

// MarshalJSON implements json.Marshaler. Lists are never null.
func (r Report) MarshalJSON() ([]byte, error) {
	r.Nodes, r.Invariants, r.Rounds = list(r.Nodes), list(r.Invariants), list(r.Rounds)
	r.Slices, r.Leaders, r.Incidents, r.Kept = list(r.Slices), list(r.Leaders), list(r.Incidents), list(r.Kept)
	return json.Marshal(file{format, fields(r)})
}

func list[T any](of []T) []T {
	if of == nil {
		return []T{}
	}
	return of
}
