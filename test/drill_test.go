//go:build linux

package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dems/client/drill/report"
	"dems/internal/planted"
)

// drill runs demsctl drill against a cluster and returns its report, nil where there is none.
func (c *devCluster) drill(scenario string, more ...string) (outcome, *report.Report) {
	c.t.Helper()
	keep := filepath.Join(c.t.TempDir(), "kept")
	arguments := append([]string{"drill", scenario, "--data-dir", c.dataDir, "--endpoint", c.url, "--keep", keep, "-o", "json"}, more...)
	got := runProgram(c.t, demsctl(), arguments...)
	if got.stdout == "" {
		return got, nil
	}
	r := new(report.Report)
	if err := json.Unmarshal([]byte(got.stdout), r); err != nil {
		c.t.Fatalf("%v: %v", err, got)
	}
	for _, name := range []string{"history.jsonl", "report.json", "report.html"} {
		if info, err := os.Stat(filepath.Join(keep, name)); err != nil || info.Size() == 0 || !slices.Contains(r.Kept, filepath.Join(keep, name)) {
			c.t.Errorf("kept %q: %v", r.Kept, err)
		}
	}
	return got, r
}

// TestDrill runs the scenarios, one after the other, on one cluster, and looks at what the reports say.
func TestDrill(t *testing.T) {
	t.Parallel()
	c := startDev(t, t.TempDir())
	for _, test := range []struct {
		scenario                  string
		rounds                    int
		elects, convicts, repairs int // rounds of which such a time is reported
	}{
		{"leader-kill", 3, 3, 0, 3},
		{"node-kill", 2, 0, 0, 2},
		{"pause", 2, 1, 0, 2},
		{"partition", 5, 2, 0, 5},
		{"slow-network", 3, 0, 0, 0},
		{"wrong-results", 2, 1, 2, 2},
		{"wrong-state", 2, 1, 2, 2},
		{"rolling-restart", 1, 0, 0, 0},
	} {
		t.Run(test.scenario, func(t *testing.T) {
			within := *c
			within.t, within.cluster.t = t, t
			got, r := within.drill(test.scenario, "--rounds", strconv.Itoa(test.rounds), "--seed", "7")
			if r == nil {
				t.Fatal(got)
			}
			if got.status != 0 || !r.Passed {
				t.Fatalf("exit status %d, %+v\n%s", got.status, r.Invariants, got.stderr)
			}
			if len(r.Rounds) != test.rounds || strings.Count(got.stderr, "\n") != test.rounds || r.Seed != 7 || r.Scenario != test.scenario {
				t.Errorf("%+v\n%s", r.Rounds, got.stderr)
			}
			elected, convicted, repaired := 0, 0, 0
			for _, round := range r.Rounds {
				if round.EndedAt < round.HealedAt || round.HealedAt < round.At || round.Unanswered != 0 || round.What == "" {
					t.Errorf("%+v", round)
				}
				elected += count(round.ElectMS)
				convicted += count(round.ConvictMS)
				repaired += count(round.RepairMS)
			}
			if elected < test.elects || convicted != test.convicts || repaired != test.repairs {
				t.Errorf("%d elections, %d convictions, %d repairs: %+v", elected, convicted, repaired, r.Rounds)
			}
			if r.Operations.Acknowledged == 0 || r.Operations.Failed+r.Operations.Unknown != 0 || r.Writes.LongestPauseMS <= 0 || r.Reads.LongestPauseMS <= 0 {
				t.Errorf("%+v, %+v, %+v", r.Operations, r.Writes, r.Reads)
			}
			if r.Histories.Checked == 0 || r.Histories.Undecided != 0 || len(r.Slices) == 0 || len(r.Leaders) == 0 || len(r.Nodes) != 3 {
				t.Errorf("%+v, %d slices, leaders %+v, nodes %q", r.Histories, len(r.Slices), r.Leaders, r.Nodes)
			}
			t.Logf("%d operations in %.1f s; longest pause of writes %.0f ms, of reads %.0f ms\n%s", r.Operations.Tried, r.Seconds,
				r.Writes.LongestPauseMS, r.Reads.LongestPauseMS, got.stderr)
		})
	}
	c.waitEqual(20 * time.Second)
	for _, eventType := range []string{"seminar", "conference", "tradeshow"} {
		got := runProgram(t, demsctl(), "--endpoint", c.url, "--user", "TORM0001", "--log-dir", t.TempDir(), "event", "list", eventType)
		if got.status != 0 || !strings.Contains(got.stdout, "none") {
			t.Errorf("drills have left events behind: %v", got)
		}
	}
}

func count(milliseconds float64) int {
	if milliseconds > 0 {
		return 1
	}
	return 0
}

// TestDrillIsInterrupted interrupts a drill while a node is stopped: it lets the node go on, and reports.
func TestDrillIsInterrupted(t *testing.T) {
	t.Parallel()
	c := startDev(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), programDeadline)
	defer cancel()
	var stdout bytes.Buffer
	command := exec.CommandContext(ctx, demsctl(), "drill", "pause", "--rounds", "1000", "--data-dir", c.dataDir, "--endpoint", c.url,
		"--keep", filepath.Join(t.TempDir(), "kept"), "-o", "json")
	command.Stdout, command.WaitDelay = &stdout, time.Second
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	if !lines.Scan() {
		t.Fatal("it says nothing")
	}
	eventually(t, 20*time.Second, "a node is stopped", func() error {
		for _, id := range c.nodes {
			if c.isStopped(id) {
				return nil
			}
		}
		return fmt.Errorf("none of %v is", c.nodes)
	})
	if err := command.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	said := lines.Text()
	for lines.Scan() {
		said += "\n" + lines.Text()
	}
	if err := command.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	var r report.Report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, stdout.String())
	}
	if !r.Passed || len(r.Notes) == 0 || !strings.Contains(r.Notes[0], "interrupted") || len(r.Rounds) == 0 || r.Operations.Failed+r.Operations.Unknown != 0 {
		t.Errorf("%+v", r)
	}
	for _, id := range c.nodes {
		if c.isStopped(id) {
			t.Errorf("%s is stopped still", id)
		}
	}
	c.waitEqual(20 * time.Second)
}

// isStopped tells whether a child is stopped, as the kernel sees it.
func (c *cluster) isStopped(name string) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(c.pid(name)), "stat"))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "T")
}

// TestDrillOfAnotherCluster breaks nothing where folder and front end do not belong together, or a node is down already.
func TestDrillOfAnotherCluster(t *testing.T) {
	t.Parallel()
	one, other := startDev(t, t.TempDir()), startDev(t, t.TempDir())
	before := one.pid("n1")
	mixed := *one
	mixed.url = other.url
	got, _ := mixed.drill("leader-kill")
	expectRefusal(t, got, 2, "give that as --endpoint")
	resume := one.suspend("n1")
	got, _ = one.drill("leader-kill", "--timeout", "3s")
	expectRefusal(t, got, 3, "could not begin", "n1 is down")
	resume()
	one.waitEqual(10 * time.Second)
	if one.pid("n1") != before {
		t.Error("n1 was killed all the same")
	}
}

// TestDrillFindsPlantedBugs runs drills on clusters that have a bug: each is found, and told as what it is. A check that finds
// nothing would otherwise look like a cluster in which nothing is wrong.
func TestDrillFindsPlantedBugs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		bug      planted.Bug
		scenario string
		rounds   int
		broken   string // the invariant that is about it
	}{
		// The second round cuts the leader off from the other nodes, but not from the front end: it goes on answering with the state
		// that it has.
		{planted.StaleRead, "partition", 2, "wrong answers"},
		{planted.DoubleVote, "wrong-results", 2, "wrong answers"},
		{planted.LostRecord, "leader-kill", 1, "double-applied"},
		{planted.MonthlyLimit, "slow-network", 2, "wrong answers"},
	} {
		t.Run(string(test.bug), func(t *testing.T) {
			program := buildDemsd(t, "..", "dems/internal/planted.bug="+string(test.bug), "-tags", "planted")
			c := startDevWith(t, program, 3, t.TempDir())
			got, r := c.drill(test.scenario, "--rounds", strconv.Itoa(test.rounds))
			if got.status != 1 || r == nil || r.Passed {
				t.Fatalf("the drill did not find the bug: %v", got)
			}
			at := slices.IndexFunc(r.Invariants, func(i report.Invariant) bool { return i.Name == test.broken })
			if at < 0 || r.Invariants[at].Broken == 0 || len(r.Invariants[at].Examples) == 0 {
				t.Errorf("%s was not found broken: %q", test.broken, r.Objections())
			}
			t.Logf("%q", r.Objections())
		})
	}
}
