package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the files in testdata come to, instead of comparing")

// golden compares with a file in testdata. go test ./client/drill/report -update writes it anew.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; -update writes it anew. It came to this:\n%s", path, got)
	}
}

// full is a report in which nothing is zero.
func full() *Report {
	return &Report{
		Version: "v1.2.3", Scenario: "leader-kill", Seed: 7, Command: "demsctl drill leader-kill --seed 7",
		Cluster: "three nodes on this machine", Nodes: []string{"n1", "n2", "n3"},
		Began: time.Date(2026, 11, 22, 11, 35, 37, 123e6, time.UTC), Seconds: 12.5,
		Operations: Operations{Tried: 100, Acknowledged: 90, Refused: 7, Failed: 2, Unknown: 1},
		Invariants: []Invariant{{
			Name: "lost", Meaning: "What was acknowledged is still there at the end.", Broken: 1,
			Examples: []string{"booking of MTLC0001"},
		}},
		Histories: Histories{
			Checked: 4, Operations: 100, NotLinearizable: 1, Undecided: 1, Seconds: 0.5, Examples: []string{"group 3"},
		},
		Writes: Service{Tried: 60, Answered: 58, P50MS: 3, P99MS: 40, P999MS: 300, MaxMS: 812.5, LongestPauseMS: 800},
		Reads:  Service{Tried: 40, Answered: 39, P50MS: 1, P99MS: 4, P999MS: 100, MaxMS: 150, LongestPauseMS: 120},
		Rounds: []Round{{
			Scenario: "leader-kill", Number: 1, Node: "n2", What: "killed the leader n2", At: 2, HealedAt: 4, EndedAt: 6.5,
			ElectMS: 300, ConvictMS: 1200, RepairMS: 4500, WritePauseMS: 800, ReadPauseMS: 120, SlowestWriteMS: 812.5,
			SlowestReadMS: 150, Unanswered: 3,
		}},
		Slices: []Slice{{
			From: 0.1, To: 0.2, Writes: 6, Reads: 4, Failed: 3, WriteMS: 9, ReadMS: 8, P50MS: 3, P99MS: 9,
		}},
		Leaders:   []Leader{{Node: "n2", Term: 3, From: 0.1, To: 2}},
		Incidents: []Incident{{At: 2.5, Sequence: 17, Kind: "suspicion", Node: "n2", By: "n1", Detail: "n2 does not answer"}},
		Kept:      []string{"history.bin"}, Notes: []string{"interrupted"},
	}
}

// TestJSON pins the names of the fields: files that were kept have to be read later.
func TestJSON(t *testing.T) {
	report := full()
	for _, path := range zeros(reflect.ValueOf(*report), "report") {
		t.Errorf("%s is zero, so that the file below does not show it", path)
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/report.json", append(text, '\n'))
}

// zeros returns the paths of all fields that are zero.
func zeros(v reflect.Value, path string) (found []string) {
	switch {
	case v.Kind() == reflect.Bool: // always shown
	case v.IsZero():
		return []string{path}
	case v.Type() == reflect.TypeFor[time.Time]():
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			found = append(found, zeros(v.Field(i), path+"."+v.Type().Field(i).Name)...)
		}
	case v.Kind() == reflect.Slice:
		if v.Len() == 0 {
			return []string{path}
		}
		found = zeros(v.Index(0), path+"[0]")
	}
	return found
}

// TestEveryNameIsDocumented looks for the names in the section about reports.
func TestEveryNameIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Report of a drill\n")
	if !found {
		t.Fatal("there is no section about reports")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var look func(value any)
	look = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			for name, below := range value {
				if !strings.Contains(section, "`"+name+"`") {
					t.Errorf("%s is not documented", name)
				}
				look(below)
			}
		case []any:
			look(value[0])
		}
	}
	var decoded any
	if err := json.Unmarshal(encode(t, full()), &decoded); err != nil {
		t.Fatal(err)
	}
	look(decoded)
}

func TestListsAreNeverNull(t *testing.T) {
	for _, report := range []any{Report{}, &Report{}, struct{ R Report }{}} {
		text, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "null") || !strings.Contains(string(text), `"rounds":[]`) {
			t.Errorf("%s", text)
		}
	}
}

func TestDecide(t *testing.T) {
	sound := func() *Report {
		return &Report{
			Operations: Operations{Tried: 3, Acknowledged: 1}, Histories: Histories{Checked: 5},
			Invariants: []Invariant{{Name: "lost"}, {Name: "double-applied"}, {Name: "oversold"}},
		}
	}
	for name, test := range map[string]struct {
		change func(*Report)
		want   []string
	}{
		"sound":             {func(*Report) {}, nil},
		"unknown and slow":  {func(r *Report) { r.Operations.Unknown, r.Writes.LongestPauseMS = 9, 1e6 }, nil},
		"broken":            {func(r *Report) { r.Invariants[1].Broken = 1 }, []string{"double-applied: once"}},
		"broken twice":      {func(r *Report) { r.Invariants[2].Broken = 2 }, []string{"oversold: 2 times"}},
		"not linearizable":  {func(r *Report) { r.Histories.NotLinearizable = 1 }, []string{"not linearizable: 1 of 5 histories"}},
		"undecided":         {func(r *Report) { r.Histories.Undecided = 2 }, []string{"undecided: 2 of 5 histories"}},
		"nothing checked":   {func(r *Report) { r.Invariants = nil }, []string{"no invariant was checked"}},
		"nothing was done":  {func(r *Report) { r.Operations.Acknowledged = 0 }, []string{"no operation was acknowledged"}},
		"several, in order": {func(r *Report) { r.Histories.Undecided, r.Invariants[0].Broken = 1, 1 }, []string{"lost: once", "undecided: 1 of 5 histories"}},
	} {
		t.Run(name, func(t *testing.T) {
			report := sound()
			test.change(report)
			report.Passed = len(test.want) > 0 // the contrary
			report.Decide()
			if report.Passed != (len(test.want) == 0) {
				t.Errorf("passed: %t", report.Passed)
			}
			if got := report.Objections(); !slices.Equal(got, test.want) {
				t.Errorf("objections %q, want %q", got, test.want)
			}
		})
	}
}
