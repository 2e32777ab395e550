package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/backup"
	"dems/internal/cluster"
	"dems/node"
)

// save has a node give a backup of at least an index and returns it with what it is of.
func save(t *testing.T, from *cluster.Cluster, id dems.NodeID, minIndex uint64) (dems.Origin, []byte) {
	t.Helper()
	var origin dems.Origin
	var data bytes.Buffer
	err := from.Replica(id).Backup(t.Context(), minIndex, func(part dems.BackupPart) error {
		if origin == (dems.Origin{}) {
			origin = part.Origin
		}
		data.Write(part.Data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return origin, data.Bytes()
}

// TestBackupsOfAllNodesAreTheSame takes a backup from every node, by its own word of the same state.
func TestBackupsOfAllNodesAreTheSame(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	c.OpenSession(session)
	for number := range 20 {
		c.Propose(batch(number+1, append(bookings(number, 50), addEvent("MTL", 400), addEvent("TOR", 7))...))
	}
	taken := make(map[dems.NodeID][]byte)
	var first dems.Origin
	c.Eventually("backups of one index", func(context.Context) error { // nodes still register, and the like
		for _, id := range c.IDs() {
			origin, data := save(t, c, id, 0)
			if taken[id] = data; id == "n1" {
				first = origin
			} else if origin.Index != first.Index {
				return fmt.Errorf("of %d and %d", first.Index, origin.Index)
			}
		}
		return nil
	})
	for _, id := range c.IDs() {
		head, _, err := backup.Verify(bytes.NewReader(taken[id]))
		if err != nil || head.Origin != first || head.Logs[0].Records == 0 {
			t.Fatalf("%s: %+v, not %v: %v", id, head, first, err)
		}
		if !bytes.Equal(taken[id], taken["n1"]) {
			t.Errorf("%s gives another backup than n1", id)
		}
		for _, log := range head.Logs {
			records, err := cluster.CityLog(t.Context(), c.Replica(id), log.City)
			if err != nil || uint64(bytes.Count(records, []byte{'\n'})) != log.Records || !bytes.Contains(taken[id], firstLineOf(records)) {
				t.Errorf("%s: the log of %s, of which the backup says %+v: %v", id, log.City, log, err)
			}
		}
	}
}

func firstLineOf(text []byte) []byte { return text[:bytes.IndexByte(text, '\n')+1] }

// TestBackupWhileRequestsGoOn takes backups under load: each holds everything that was acknowledged before it was asked for.
func TestBackupWhileRequestsGoOn(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 100_000)))
	var acknowledged, number uint64 = 0, 1
	var mu sync.Mutex
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	load.Go(func() {
		for ctx.Err() == nil {
			number++
			reply := c.Propose(batch(int(number), bookings(int(number), 100)...))
			mu.Lock()
			acknowledged = reply.Vote.Index
			mu.Unlock()
		}
	})
	defer load.Wait()
	defer stop()
	for round := range 6 {
		mu.Lock()
		least := acknowledged
		mu.Unlock()
		id := c.IDs()[round%3]
		origin, data := save(t, c, id, least)
		if head, _, err := backup.Verify(bytes.NewReader(data)); err != nil || head.Origin != origin || origin.Index < least {
			t.Errorf("%s: %v, at least %d, %v", id, origin, least, err)
		}
		for _, other := range c.IDs() {
			c.Eventually("every node had that state", func(ctx context.Context) error {
				digest, err := c.Replica(other).StateAt(ctx, origin.Index)
				if err == nil && digest != origin.Digest {
					t.Fatalf("%s had %s at index %d, %s gives a backup of %s", other, digest, origin.Index, id, origin.Digest)
				}
				return err
			})
		}
	}
}

func TestBackupThatIsNotGiven(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{Change: func(config *node.Config) { config.AuditInterval = time.Hour }})
	c.OpenSession(session)
	refused := func(id dems.NodeID, minIndex uint64, want string) {
		t.Helper()
		parts := 0
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		err := c.Node(id).Backup(ctx, minIndex, func(part dems.BackupPart) error {
			parts += min(1, len(part.Data))
			return nil
		})
		if err == nil || kind(t, err) != dems.NotReady || !strings.Contains(err.Error(), want) || parts > 0 {
			t.Errorf("%s: %v after %d pieces, want an error with %q", id, err, parts, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Node("n1").Backup(ctx, 1<<40, func(dems.BackupPart) error { return nil }); kind(t, err) != dems.NotReady {
		t.Errorf("of an index that is not there yet: %v", err)
	}
	enough := errors.New("enough")
	if err := c.Node("n1").Backup(t.Context(), 0, func(dems.BackupPart) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("for a reader that leaves: %v", err)
	}
	c.Node("n2").Damage()
	refused("n2", 0, "its records give")

	inside, leave := make(chan struct{}), make(chan struct{})
	var busy sync.WaitGroup
	for range 2 {
		busy.Go(func() {
			first := true
			err := c.Node("n3").Backup(t.Context(), 0, func(dems.BackupPart) error {
				if first {
					first = false
					inside <- struct{}{}
					<-leave
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	<-inside
	<-inside
	refused("n3", 0, "too many")
	close(leave)
	busy.Wait()
	save(t, c, "n3", 0)
}

// TestStoppingNodeEndsBackups has a reader take its time while the node stops.
func TestStoppingNodeEndsBackups(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	c.OpenSession(session)
	n := c.Node("n2")
	err := n.Backup(t.Context(), 0, func(part dems.BackupPart) error {
		if len(part.Data) == 0 {
			c.StopNode("n2")
		}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "stopping") && !strings.Contains(err.Error(), "closed") {
		t.Errorf("%v", err)
	}
}

// file writes a backup into a file.
func file(t *testing.T, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	return opened
}
