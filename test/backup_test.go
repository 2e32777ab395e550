//go:build linux

package test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dems"
	"dems/internal/conformance"
)

// savedBackup is what demsctl snapshot save says.
type savedBackup struct {
	File     string
	Sequence uint64
	Digest   string
	Bytes    int64
	Votes    string
	Records  map[string]int
}

// saveBackup saves a backup of a cluster as an operator does.
func (c *cluster) saveBackup(path string) savedBackup {
	c.t.Helper()
	var saved savedBackup
	got := runProgram(c.t, demsctl(), "--endpoint", c.url, "-o", "json", "snapshot", "save", path)
	if got.status != 0 || got.stderr != "" {
		c.t.Fatal(got)
	}
	if err := json.Unmarshal([]byte(got.stdout), &saved); err != nil {
		c.t.Fatal(err)
	}
	return saved
}

// restore makes a data folder from a backup as an operator does.
func (saved *savedBackup) restore(t *testing.T, args ...string) {
	t.Helper()
	got := runProgram(t, demsd(), append([]string{"restore", "--from", saved.File}, args...)...)
	if want := fmt.Sprintf("restored: index %d, digest %s, into ", saved.Sequence, saved.Digest); got.status != 0 || !strings.HasPrefix(got.stdout, want) {
		t.Fatal(got)
	}
}

// TestBackupUnderLoad saves a backup while requests are on their way, and restores it to a cluster of other nodes, and more of them:
// that has what was acknowledged up to the backup's sequence and nothing of what came after, and it is a cluster like any other.
func TestBackupUnderLoad(t *testing.T) {
	old := startDev(t, t.TempDir())
	tr := (&traffic{t: t, targets: []conformance.REST{old.rest()}, run: rand.Text(), keeps: true}).prepare(0, 8)
	tr.start()
	tr.waitFor(1500)
	saved := old.saveBackup(filepath.Join(t.TempDir(), "tonight.backup"))
	tr.waitFor(500)
	tr.finish()
	tr.verify()
	tr.expectClean()
	t.Logf("%d bytes, sequence %d, votes %s, of %d answers", saved.Bytes, saved.Sequence, saved.Votes, tr.done.Load())
	logs := map[dems.City][]byte{}
	for _, named := range dems.DefaultCities() {
		logs[named.City] = firstRecords(old.orderedRecords("n1", named.City), saved.Records[named.City.String()])
	}
	if err := old.stop(syscall.SIGTERM); err != nil {
		t.Error(err)
	}

	c := &handCluster{cluster: newCluster(t, t.TempDir(), 5)}
	c.nodes = []string{"east", "west", "north", "south", "n1"}
	for _, name := range c.nodes {
		saved.restore(t, "--data-dir", filepath.Join(c.dataDir, name))
		c.expectRestored(name, &saved)
	}
	c.startAll()
	c.waitEqual(readyDeadline)
	c.expectNothingOfTheOldCluster()
	for city, want := range logs {
		if got := c.orderedRecords("east", city); !bytes.Equal(got, want) {
			t.Errorf("the log of %s has %d bytes, want %d; they differ from byte %d on", city, len(got), len(want), commonPrefix(got, want))
		}
	}
	tr.targets = []conformance.REST{c.rest()}
	before, after := tr.rewind(saved.Sequence)
	t.Logf("%d writes up to the backup, %d after it", before, after)
	if before == 0 || after == 0 {
		t.Error("the backup was not saved in the middle of the load")
	}
	tr.verify()
	tr.expectClean()

	tr.start()
	tr.waitFor(200)
	latest, leader := c.sequence(), c.leaderNow()
	c.replace(leader) // nodes of a restored cluster are replaced, and die, like any other
	c.waitIncident("readdition", leader, latest, stepDeadline)
	c.kill(leader)
	c.start(leader)
	c.waitHealthy(stepDeadline)
	tr.waitFor(100)
	tr.finish()
	tr.verify()
	tr.expectClean()
	c.waitEqual(20 * time.Second)
	c.expectEqualCityLogs()
}

// firstRecords returns the first lines of a log.
func firstRecords(log []byte, count int) []byte {
	lines := bytes.SplitAfter(log, []byte{'\n'})
	return bytes.Join(lines[:min(count, len(lines))], nil)
}

// rewind brings every writer's model to what it had written up to a sequence, and compares answers with what the cluster remembers:
// of the last writes up to there the same answer is given again, and the first one after it is a new one to the cluster. It returns
// how many writes there were before and after.
func (tr *traffic) rewind(sequence uint64) (before, after int) {
	tr.t.Helper()
	const asked = 20 // by each writer, again
	for _, w := range tr.writers {
		writes := w.writes
		model, err := conformance.NewMachine()
		if err != nil {
			tr.t.Fatal(err)
		}
		w.model, w.writes = model, nil
		known := 0
		for ; known < len(writes) && writes[known].answer.Sequence <= sequence; known++ {
			if _, err := model.Do(context.Background(), writes[known].as, writes[known].operation); err != nil {
				tr.t.Fatal(err)
			}
		}
		for _, old := range writes[max(0, known-asked):known] {
			again, err := w.answer(old.as, old.operation)
			if problem := (conformance.Want{Status: old.answer.Status, Body: old.answer.Body}).Mismatch(again); err != nil || problem != "" || !again.Replayed {
				tr.t.Errorf("%v by %s again: %+v, %v: %s", old.operation, old.as, again, err, problem)
			}
		}
		if known < len(writes) {
			expected, err := model.Do(context.Background(), writes[known].as, writes[known].operation)
			if err != nil {
				tr.t.Fatal(err)
			}
			got, err := w.answer(writes[known].as, writes[known].operation)
			if problem := compare(expected, got); err != nil || problem != "" || got.Replayed {
				tr.t.Errorf("%v by %s, which came after the backup: %+v, %v: %s", writes[known].operation, writes[known].as, got, err, problem)
			}
		}
		before, after = before+known, after+len(writes)-known
	}
	return before, after
}

// expectRestored looks into a data folder that was made from a backup: the state's own digest is the backup's.
func (c *cluster) expectRestored(name string, saved *savedBackup) {
	c.t.Helper()
	pattern := filepath.Join(c.dataDir, name, "snapshots", fmt.Sprintf("1-%d-*", saved.Sequence), "state.bin")
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		c.t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	state, err := os.ReadFile(found[0])
	if err != nil {
		c.t.Fatal(err)
	}
	const trailerBytes, digestBytes = 33, 16 // the trailer is a byte, the digest and a checksum
	if digest := fmt.Sprintf("%x", state[len(state)-trailerBytes+1:][:digestBytes]); digest != saved.Digest {
		c.t.Errorf("%s has a state with digest %s, and the backup %s", name, digest, saved.Digest)
	}
}

// expectNothingOfTheOldCluster makes sure that clients are told of the new cluster's servers only.
func (c *cluster) expectNothingOfTheOldCluster() {
	c.t.Helper()
	eventually(c.t, 20*time.Second, "the new cluster's servers alone are registered", func() error {
		var registry struct {
			Nodes []struct {
				ID          string
				Incarnation uint64
			}
			FrontEnds []struct{ ID, Address string }
		}
		if err := c.decode("/v1/registry", &registry); err != nil {
			return err
		}
		if len(registry.Nodes) != len(c.nodes) || len(registry.FrontEnds) != 1 || registry.FrontEnds[0].Address != c.url {
			return fmt.Errorf("%+v", registry)
		}
		for _, n := range registry.Nodes {
			if n.Incarnation != 1 {
				return fmt.Errorf("%+v", registry)
			}
		}
		return nil
	})
}

// TestBackupOfAWrongNode takes a backup while a node's state is wrong: it is not given by that node, and not of its state.
func TestBackupOfAWrongNode(t *testing.T) {
	t.Parallel()
	points := failpoints{t.TempDir()}
	c := startLinked(t, 3, "DEMSD_FAILPOINTS="+points.dir)
	c.must("TORM0001", conformance.Operation{"op": "addEvent", "eventID": "TORM100519", "eventType": "seminar", "capacity": 2})
	points.arm(t, "remove") // it stays wrong for as long as this takes
	wrong := c.follower()
	c.fault(wrong, "wrong-state")
	for number := range 4 {
		c.must("TORM0001", conformance.Operation{"op": "addEvent", "eventID": "TORA100519", "eventType": "seminar", "capacity": 3 + number})
		saved := c.saveBackup(filepath.Join(t.TempDir(), "tonight.backup"))
		if saved.Votes != "2/3" {
			t.Errorf("%+v", saved)
		}
	}
	points.disarm(t)
	saved := c.saveBackup(filepath.Join(t.TempDir(), "tonight.backup"))

	folder := filepath.Join(t.TempDir(), "dev")
	saved.restore(t, "--data-dir", folder, "--dev", "--nodes", "1")
	restored := startDevOf(t, 1, folder)
	restored.must("MTLC0001", conformance.Operation{"op": "bookEvent", "customerID": "MTLC0001", "eventID": "TORA100519", "eventType": "seminar"})
	event := restored.must("TORM0001", conformance.Operation{"op": "getEvent", "eventID": "TORA100519", "eventType": "seminar"})
	if got, _ := event["event"].(map[string]any); got["capacity"] != json.Number("6") || got["booked"] != json.Number("1") {
		t.Errorf("%v", event)
	}
}
