package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dems"
	"dems/client"
	"dems/client/drill"
	"dems/client/drill/report"
)

// drilled is the report of a drill that passed.
func drilled() *report.Report {
	return &report.Report{
		Scenario: "leader-kill", Seed: 7, Cluster: "3 nodes of demsd dev", Seconds: 12.4, Passed: true,
		Operations: report.Operations{Tried: 1347, Acknowledged: 1013, Refused: 334},
		Invariants: []report.Invariant{{Name: "lost", Meaning: "Nothing is lost."}, {Name: "correct nodes accused", Meaning: "No correct node is accused."}},
		Histories:  report.Histories{Checked: 9, Operations: 1347, Seconds: 0.25},
		Writes:     report.Service{Answered: 752, P50MS: 6.83, P99MS: 82.51, MaxMS: 93.3, LongestPauseMS: 86.8},
		Reads:      report.Service{Answered: 595, P50MS: 3.4, P99MS: 13.4, MaxMS: 118.6, LongestPauseMS: 6.7},
		Rounds: []report.Round{
			{Scenario: "leader-kill", Number: 1, What: "killed the leader n3", At: 1, HealedAt: 1.2, EndedAt: 1.5, ElectMS: 172.6, RepairMS: 1459, WritePauseMS: 87},
			{Scenario: "wrong-state", Number: 10, What: "altered the state of the follower n1", At: 2, HealedAt: 2.2, EndedAt: 2.5, ConvictMS: 20.4, RepairMS: 330, ReadPauseMS: 5},
		},
		Kept: []string{"kept/report.html"},
	}
}

func TestDrillTable(t *testing.T) {
	var text page
	writeDrill(&text, drilled())
	want := `Drill leader-kill, 2 rounds in 12 s, seed 7
3 nodes of demsd dev

SCENARIO     ROUND  WHAT                                  ELECTED MS  CONVICTED MS  REPAIRED MS  WRITE PAUSE MS  READ PAUSE MS
leader-kill      1  killed the leader n3                         173             -         1459              87              0
wrong-state     10  altered the state of the follower n1           -            20          330               0              5

MEDIAN / MAX  ROUNDS  ELECTED MS  CONVICTED MS  REPAIRED MS  WRITE PAUSE MS  READ PAUSE MS
leader-kill        1   173 / 173             -  1459 / 1459         87 / 87          0 / 0
wrong-state        1           -       20 / 20    330 / 330           0 / 0          5 / 5

OPERATIONS  TRIED  ACKNOWLEDGED  REFUSED  FAILED  UNKNOWN
all          1347          1013      334       0        0

ANSWERED  COUNT  P50 MS  P99 MS  MAX MS  LONGEST PAUSE MS
writes      752     6.8    82.5    93.3              86.8
reads       595     3.4    13.4   118.6               6.7

INVARIANT              BROKEN
lost                        0
correct nodes accused       0
undecided                   0

Checked for linearizability: 9 histories of 1347 operations, in 0.2 s
Kept: kept/report.html
Passed
`
	if text.String() != want {
		t.Errorf("printed:\n%swant:\n%s", text.String(), want)
	}
}

// TestDrillTableOfWhatIsBroken shows what has to hold, and examples, and nothing that controls a terminal.
func TestDrillTableOfWhatIsBroken(t *testing.T) {
	r := drilled()
	r.Passed = false
	r.Invariants[0].Broken, r.Invariants[0].Examples = 2, []string{"operation 7\x1b[2J", "operation 8"}
	r.Histories.Undecided, r.Histories.Examples = 1, []string{"Group 3 could not be decided."}
	r.Notes = []string{"The drill was interrupted."}
	for range 2 * mostRounds {
		r.Rounds = append(r.Rounds, r.Rounds[0])
	}
	text := page{colour: true}
	writeDrill(&text, r)
	for _, want := range []string{
		"\x1b[31mlost\x1b[0m, 2: Nothing is lost.\n  operation 7\uFFFD[2J\n  operation 8\n", "\nGroup 3 could not be decided.\n",
		"\nNote: The drill was interrupted.\n", "and 52 more rounds", "undecided                   \x1b[31m1\x1b[0m\n",
		"\x1b[31mNot passed\x1b[0m: lost: 2 times; undecided: 1 of 9 histories\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
	if lines := strings.Count(text.String(), "killed the leader n3"); lines != mostRounds-1 {
		t.Errorf("%d rounds are printed", lines+1)
	}
}

func TestDescribeRound(t *testing.T) {
	r := drilled().Rounds
	r[1].EndedAt = 0
	for i, want := range []string{
		"leader-kill, round 1: killed the leader n3; elected after 173ms; repaired after 1.459s",
		"wrong-state, round 10: altered the state of the follower n1; convicted after 20ms; repaired after 330ms; not whole again",
	} {
		if got := describeRound(&r[i]); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestDescribeProgress(t *testing.T) {
	for want, progress := range map[string]drill.Progress{
		"    1 s     427 operations/s      0 failed  nobody leads  warming up": {Elapsed: time.Second, PerSecond: 427.3, Doing: "warming up"},
		"   90 s       7 operations/s     12 failed  n2 leads  round 3 of 8, pause: stopped the leader n1": {
			Elapsed: 90 * time.Second, PerSecond: 7, Failed: 12, Leader: "n2", Round: 3, Rounds: 8, Scenario: "pause", Doing: "stopped the leader n1"},
		"    2 s       0 operations/s      0 failed  n2 leads  round 3, pause: mending": {
			Elapsed: 2 * time.Second, Leader: "n2", Round: 3, Scenario: "pause", Doing: "mending"},
	} {
		if got := describeProgress(&progress); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestVerdicts: who runs drills in scripts goes by the exit status, and is told why once.
func TestVerdicts(t *testing.T) {
	verdict := &verdictError{[]string{"lost: once", "undecided: 1 of 3 histories"}}
	full := errors.New("no space left on device")
	for _, test := range []struct {
		output string
		err    error
		told   string
	}{
		{"table", verdict, ""},
		{"json", verdict, "demsctl: not passed: lost: once; undecided: 1 of 3 histories\n"},
		{"table", errors.Join(verdict, full), "no space left"},
	} {
		var complaints bytes.Buffer
		p := &program{stderr: &complaints, output: test.output}
		p.complain(nil, test.err)
		if got := complaints.String(); !strings.Contains(got, test.told) || (got == "") != (test.told == "") {
			t.Errorf("%s, %v: %q", test.output, test.err, got)
		}
		if status := exitStatus(test.err); status != 1 {
			t.Errorf("%v: exit status %d", test.err, status)
		}
	}
}

// TestDrillThatDidNotBegin: whatever a front end does not know, nothing was broken.
func TestDrillThatDidNotBegin(t *testing.T) {
	for err, want := range map[error]int{
		&client.Error{Code: dems.Indeterminate}:                             exitUnavailable,
		&client.Error{Code: dems.NoMajority}:                                exitUnavailable,
		fmt.Errorf("the cities: %w", &client.Error{Code: dems.Unavailable}): exitUnavailable,
		errors.New("not for drills"):                                        exitUsage,
	} {
		if got := exitStatus(notBegun(err)); got != want {
			t.Errorf("%v: exit status %d, want %d", err, got, want)
		}
	}
}

func TestDrillLine(t *testing.T) {
	p := &program{endpoints: []string{"http://127.0.0.1:8080", "http://127.0.0.1:8081"}, timeout: 10 * time.Second}
	got := p.drillLine(&drill.Config{Scenario: "all", Rounds: 3, Seed: 7, Clients: 24}, drillFlags{dataDir: "it's here"})
	want := `demsctl drill all --rounds 3 --seed 7 --clients 24 --data-dir 'it'\''s here' --endpoint http://127.0.0.1:8080,http://127.0.0.1:8081 --timeout 10s`
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	got = p.drillLine(&drill.Config{Scenario: "pause", Duration: time.Hour, Seed: 7, Clients: 2, Rate: 12.5}, drillFlags{dataDir: "dems-data", project: "dems"})
	if want = "demsctl drill pause --duration 1h0m0s --seed 7 --clients 2 --rate 12.5 --compose dems"; !strings.HasPrefix(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
}
