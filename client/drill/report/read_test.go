package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	gocmp "github.com/google/go-cmp/cmp"
)

func encode(t testing.TB, report *Report) []byte {
	t.Helper()
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestReadReturnsWhatWasWritten(t *testing.T) {
	measured := Report{Seconds: 30, Rounds: []Round{{At: 1, EndedAt: 2}}}
	measured.Measure(nil)
	for name, want := range map[string]*Report{"full": full(), "empty": {}, "measured": &measured} {
		t.Run(name, func(t *testing.T) {
			text := encode(t, want)
			got, err := Read(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if again := encode(t, got); !bytes.Equal(again, text) {
				t.Errorf("it comes back as\n%s\nnot\n%s", again, text)
			}
			if name == "full" {
				if difference := gocmp.Diff(want, got); difference != "" {
					t.Error(difference)
				}
			}
		})
	}
}

// TestReadOldFile reads a file as it was kept.
func TestReadOldFile(t *testing.T) {
	file, err := os.Open("testdata/report.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if difference := gocmp.Diff(full(), got); difference != "" {
		t.Error(difference)
	}
}

func TestReadRefuses(t *testing.T) {
	changed := func(change func(*Report)) string {
		report := full()
		change(report)
		return string(encode(t, report))
	}
	for name, test := range map[string]struct{ text, want string }{
		"nothing":          {"", "no report of a drill"},
		"null":             {"null", "its format is 0"},
		"another format":   {`{"format":2}`, "its format is 2"},
		"no object":        {"[]", "no report of a drill"},
		"half of it":       {string(encode(t, full())[:500]), "no report of a drill"},
		"a field too many": {`{"format":1,"answers":42}`, "answers"},
		"two of them":      {`{"format":1} {"format":1}`, "follows"},
		"garbage after it": {`{"format":1}]`, "follows"},
		"too long":         {strings.Repeat(" ", MostBytes) + "{}", "more than"},
		"no number":        {`{"format":1,"seconds":1e999}`, "no report of a drill"},
		"negative time":    {`{"format":1,"seconds":-1}`, "seconds: -1"},
		"endless drill":    {changed(func(r *Report) { r.Seconds = 1e10 }), "seconds: 1e+10"},
		"negative count":   {changed(func(r *Report) { r.Histories.Undecided = -1 }), "linearizability: -1"},
		"latency":          {changed(func(r *Report) { r.Reads.P99MS = -1 }), "reads: -1"},
		"round":            {changed(func(r *Report) { r.Rounds[0].HealedAt = -1 }), "rounds[0]: -1"},
		"round's time":     {changed(func(r *Report) { r.Rounds[0].SlowestReadMS = 1e300 }), "rounds[0]: 1e+300"},
		"round ends early": {changed(func(r *Report) { r.Rounds[0].EndedAt = 1 }), "rounds[0]: it ends before"},
		"slice":            {changed(func(r *Report) { r.Slices[0].P50MS = -1 }), "timeline[0]: -1"},
		"empty slice":      {changed(func(r *Report) { r.Slices[0].To = 0.1 }), "timeline[0]: it ends before"},
		"slices in disorder": {
			changed(func(r *Report) { r.Slices = append(r.Slices, Slice{From: 0, To: 1}) }), "timeline[1]: it begins before",
		},
		"too many slices": {
			changed(func(r *Report) {
				for len(r.Slices) <= mostSlices {
					r.Slices = append(r.Slices, Slice{From: 1, To: 2})
				}
			}), "more than 600 slices",
		},
		"leader":           {changed(func(r *Report) { r.Leaders[0].To = 0 }), "leaders[0]: it ends before"},
		"leader's time":    {changed(func(r *Report) { r.Leaders[0].From = -1 }), "leaders[0]: -1"},
		"incident":         {changed(func(r *Report) { r.Incidents[0].At = -1 }), "incidents[0]: -1"},
		"passed all alike": {changed(func(r *Report) { r.Passed = true }), "passed: it is true in spite of lost: once"},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := Read(strings.NewReader(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if report != nil {
				t.Errorf("there is a report: %+v", report)
			}
		})
	}
}

func TestReadPassesFailuresOn(t *testing.T) {
	broken := errors.New("disk gone")
	if _, err := Read(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

// FuzzRead shows that whatever is read can be written and read again, and has a page.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"format":1}`))
	f.Add([]byte("null"))
	f.Add(encode(f, full()))
	f.Add([]byte(`{"format":1,"rounds":[{"at":3},{"at":1,"endedAt":2}],"timeline":[{"from":1,"to":2,"writes":18446744073709551615}]}`))
	f.Add([]byte(`{"format":1,"nodes":["</svg>"],"leaders":[{"node":"\u0000<!--","from":0,"to":5}],"incidents":[{"kind":"]]>","at":1e-300}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		report, err := Read(bytes.NewReader(text))
		if err != nil {
			if report != nil {
				t.Fatal("an error with a report")
			}
			return
		}
		written := encode(t, report)
		again, err := Read(bytes.NewReader(written))
		if err != nil {
			t.Fatalf("%s\ncannot be read again: %v", written, err)
		}
		if twice := encode(t, again); !bytes.Equal(twice, written) {
			t.Fatalf("%s\nbecomes\n%s", written, twice)
		}
		checkPage(t, rendered(t, "fuzzed", again))
	})
}
