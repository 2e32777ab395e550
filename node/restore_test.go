package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dems"
	"dems/backup"
	"dems/internal/cluster"
	"dems/node"
	"dems/node/storage"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// eventful starts a cluster in which much has happened: bookings in three cities, requests with keys, and a node that was replaced
// and is in its second life. It returns the cluster, the index of the last booking, and a backup of at least that.
func eventful(t *testing.T) (c *cluster.Cluster, last uint64, origin dems.Origin, data []byte) {
	t.Helper()
	c = cluster.Start(t, cluster.Config{})
	c.OpenSession(session)
	for number, city := range []string{"MTL", "TOR", "OTW"} {
		c.Propose(batch(number+1, addEvent(city, 500)))
	}
	keyed := book("TOR", 7777)
	keyed.Key = "first-time"
	c.Propose(batch(4, append(bookings(1, 200), keyed)...))
	c.WaitEqual()
	c.Eventually("n2 is replaced", func(ctx context.Context) error { return c.Replica(c.WaitLeader()).Replace(ctx, "n2") })
	waitBack(t, c, "n2", 2)
	c.WaitEqual()
	last = c.Propose(batch(5, bookings(2, 100)...)).Vote.Index
	origin, data = save(t, c, "n1", last)
	return c, last, origin, data
}

// restored makes a cluster of nodes that were all restored from a backup, without starting them.
func restored(t *testing.T, data []byte, config cluster.Config) *cluster.Cluster {
	t.Helper()
	c := cluster.New(t, config)
	for _, id := range c.IDs() {
		restore(t, data, c.Dir(id))
	}
	return c
}

func restore(t *testing.T, data []byte, dirs ...string) node.Restored {
	t.Helper()
	got, err := node.Restore(t.Context(), file(t, data), nil, dirs...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// startAll starts all nodes and waits until they can be used.
func startAll(c *cluster.Cluster) {
	for _, id := range c.IDs() {
		c.StartNode(id)
	}
	for _, id := range c.IDs() {
		c.WaitReady(id)
	}
	c.WaitLeader()
}

// registry returns what a node says of who is there.
func registry(ctx context.Context, c *cluster.Cluster, id dems.NodeID) (dems.Registry, error) {
	reply, err := c.Replica(id).Query(ctx, dems.QueryBatch{Queries: []dems.Query{{Kind: dems.RegistryQuery}}})
	if err != nil {
		return dems.Registry{}, err
	}
	return dems.DecodeRegistry(reply.Answers[0].Result)
}

// TestRestoredClusterGoesOn restores a cluster of three nodes to clusters of one, three and five.
func TestRestoredClusterGoesOn(t *testing.T) {
	t.Parallel()
	old, last, origin, data := eventful(t)
	var logs [][]byte
	for _, named := range dems.DefaultCities() {
		records, err := cluster.CityLog(t.Context(), old.Replica("n1"), named.City)
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, records)
	}
	for _, nodes := range []int{1, 3, 5} {
		t.Run(fmt.Sprintf("nodes=%d", nodes), func(t *testing.T) {
			t.Parallel()
			c := cluster.New(t, cluster.Config{Nodes: nodes})
			for _, id := range c.IDs() {
				if got := restore(t, data, c.Dir(id)); got.Origin != origin || got.Bytes != int64(len(data)) {
					t.Errorf("%s was restored from %+v, not %v", id, got, origin)
				}
			}
			startAll(c)
			for _, id := range c.IDs() {
				digest, err := c.Replica(id).StateAt(t.Context(), origin.Index)
				if status := c.Status(id); err != nil || digest != origin.Digest || status.Origin != origin || status.Incarnation != 1 {
					t.Errorf("%s began with digest %s, %v: %+v", id, digest, err, status)
				}
			}
			expectNewCluster(t, c, nodes)
			expectAllBookings(t, c, last)
			c.WaitEqual()
			for i, named := range dems.DefaultCities() {
				records, err := cluster.CityLog(t.Context(), c.Replica("n1"), named.City)
				if err != nil || !bytes.HasPrefix(records, logs[i]) {
					t.Errorf("the log of %s has %d bytes, not those %d of the old cluster and more: %v", named.City, len(records), len(logs[i]), err)
				}
			}
		})
	}
}

// expectNewCluster makes sure that nothing is left of the old cluster's nodes and front ends.
func expectNewCluster(t *testing.T, c *cluster.Cluster, nodes int) {
	t.Helper()
	c.Eventually("all nodes are registered", func(ctx context.Context) error {
		known, err := registry(ctx, c, "n1")
		if err != nil {
			return err
		}
		if len(known.FrontEnds) > 0 {
			t.Fatalf("front ends of the old cluster: %+v", known.FrontEnds)
		}
		for _, registered := range known.Nodes {
			if registered.Incarnation != 1 || !slices.Contains(c.IDs(), dems.NodeID(registered.ID)) {
				t.Fatalf("registered: %+v", registered)
			}
		}
		if len(known.Nodes) != nodes {
			return fmt.Errorf("%d nodes", len(known.Nodes))
		}
		return nil
	})
	for _, s := range c.Status("n1").Standings {
		if s.Incarnation != 1 || s.Condition != dems.Correct {
			t.Errorf("%+v", s)
		}
	}
	// A front end of the old cluster, which still runs somewhere, has no session any more.
	reply := c.Propose(batch(6, book("MTL", 1)))
	if results, err := dems.DecodeResults(reply.Results); err != nil || len(results) > 0 {
		t.Errorf("a batch of the old cluster's front end: %+v, %v", results, err)
	}
}

// expectAllBookings makes sure that a cluster has what eventful did, and goes on.
func expectAllBookings(t *testing.T, c *cluster.Cluster, last uint64) {
	t.Helper()
	c.OpenSession(session)
	again := book("TOR", 7777)
	again.Key = "first-time"
	reply := c.Propose(batch(1, again, book("MTL", 200+199), book("MTL", 5000)))
	results, err := dems.DecodeResults(reply.Results)
	if err != nil || len(results) != 3 || !results[0].Replayed || results[0].Outcome != dems.Booked || results[0].Sequence >= last ||
		results[1].Code != dems.AlreadyBooked || results[2].Outcome != dems.Booked {
		t.Errorf("%+v, %v", results, err)
	}
}

// TestRestoredClusterLives restarts a restored cluster, has it take snapshots and forget its log, and replaces nodes of it: one that
// runs, and one whose machine is gone.
func TestRestoredClusterLives(t *testing.T) {
	t.Parallel()
	_, last, origin, data := eventful(t)
	c := restored(t, data, cluster.Config{Change: func(config *node.Config) {
		config.SnapshotInterval, config.SnapshotThreshold, config.TrailingLogs = 20*time.Millisecond, 10, 2
	}})
	startAll(c)
	expectAllBookings(t, c, last)
	for _, id := range c.IDs() { // before there is any other snapshot than that of the backup
		c.KillNode(id)
		c.StartNode(id)
		c.WaitReady(id)
	}
	c.Eventually("n3 is replaced", func(ctx context.Context) error { return c.Replica(c.WaitLeader()).Replace(ctx, "n3") })
	waitBack(t, c, "n3", 2)
	for number := range 40 {
		c.Propose(batch(2+number, bookings(10+number, 20)...))
	}
	c.WaitEqual()
	c.Eventually("every node has forgotten the log that it began with", func(context.Context) error {
		for _, id := range c.IDs() {
			if first := c.Node(id).Raft().Stats()["last_snapshot_index"]; first <= fmt.Sprint(origin.Index+2) && len(first) <= 2 {
				return fmt.Errorf("%s has a snapshot of %s", id, first)
			}
		}
		return nil
	})
	for _, id := range c.IDs() { // all at once, as when power is lost
		c.KillNode(id)
	}
	startAll(c)
	c.Propose(batch(50, book("MTL", 5001)))

	c.KillNode("n1") // and its disk with it
	if err := os.RemoveAll(c.Dir("n1")); err != nil {
		t.Fatal(err)
	}
	c.WaitLeader()
	lost := c.StartNode("n1")
	if err := lost.Err(); err == nil || !strings.Contains(err.Error(), "restored from the same backup") {
		t.Fatalf("without its data: %v", err)
	}
	c.DropNode("n1")
	c.Eventually("n1 is replaced", func(ctx context.Context) error { return c.Replica(c.WaitLeader()).Replace(ctx, "n1") })
	c.StartNode("n1")
	waitBack(t, c, "n1", 2)
	c.Propose(batch(51, book("MTL", 5002)))
	c.WaitEqual()
	for _, id := range c.IDs() {
		if status := c.Status(id); status.Origin != origin {
			t.Errorf("%s belongs to a cluster that was restored from %v", id, status.Origin)
		}
	}
	c.KillNode("n1")
	c.StartNode("n1")
	c.WaitReady("n1")
}

// TestBackupOfARestoredCluster restores what was restored before.
func TestBackupOfARestoredCluster(t *testing.T) {
	t.Parallel()
	_, last, first, data := eventful(t)
	middle := restored(t, data, cluster.Config{Nodes: 1})
	startAll(middle)
	expectAllBookings(t, middle, last)
	second, data := save(t, middle, "n1", 0)
	c := restored(t, data, cluster.Config{})
	startAll(c)
	for _, id := range c.IDs() {
		if status := c.Status(id); status.Origin != second || second == first {
			t.Errorf("%s: %+v, not %v", id, status, second)
		}
	}
	expectNewCluster(t, c, 3)
}

// TestLateNodeOfARestoredCluster starts the third node when the two others have gone on for a while.
func TestLateNodeOfARestoredCluster(t *testing.T) {
	t.Parallel()
	_, last, _, data := eventful(t)
	c := restored(t, data, cluster.Config{})
	c.StartNode("n1")
	c.StartNode("n2")
	c.WaitReady("n1")
	c.WaitReady("n2")
	expectAllBookings(t, c, last)
	c.StartNode("n3")
	c.WaitReady("n3")
	c.WaitEqual()
	c.Eventually("n3 is registered", func(ctx context.Context) error {
		known, err := registry(ctx, c, "n1")
		if err == nil && len(known.Nodes) != 3 {
			err = fmt.Errorf("%+v", known.Nodes)
		}
		return err
	})

	c.StopNode("n3") // and restored once more, into an empty folder: it has promised what it does not know any more
	if err := os.RemoveAll(c.Dir("n3")); err != nil {
		t.Fatal(err)
	}
	restore(t, data, c.Dir("n3"))
	c.StartNode("n3")
	expectRefusal(t, c, "n3", "has been a member before")
}

// TestRestoredNodeAloneDoesNotAnswer has a node of a restored cluster begin while nobody votes for it: what it knows is the old
// cluster, and it tells nobody of that.
func TestRestoredNodeAloneDoesNotAnswer(t *testing.T) {
	t.Parallel()
	_, _, origin, data := eventful(t)
	c := restored(t, data, cluster.Config{Change: func(config *node.Config) {
		if config.ID == "n2" { // it waits for more nodes than there are, so that it knows of no cluster and never votes
			config.Peers = map[dems.NodeID]string{"n1": "n1:7000", "n2": "n2:7000", "n3": "n3:7000", "n4": "n4:7000", "n5": "n5:7000"}
		}
	}})
	c.StartNode("n2")
	c.StartNode("n1")
	waitCandidate(c, "n1")
	if status := c.Status("n1"); status.Ready || status.Applied != origin.Index || status.Configuration != origin.Index+2 {
		t.Errorf("%+v", status)
	}
	_, err := c.Replica("n1").Query(t.Context(), dems.QueryBatch{Queries: []dems.Query{{Kind: dems.RegistryQuery}}})
	if kind(t, err) != dems.NotReady {
		t.Errorf("%v", err)
	}
}

// waitCandidate waits until a node wants to lead.
func waitCandidate(c *cluster.Cluster, id dems.NodeID) {
	c.Eventually(string(id)+" stands for election", func(context.Context) error {
		if r := c.Node(id).Raft(); r == nil || r.State() != raft.Candidate {
			return errors.New("it does not")
		}
		return nil
	})
}

// TestRestoredNodesWaitForEachOther starts a node whose only peer has begun its log already, and waits for its vote.
func TestRestoredNodesWaitForEachOther(t *testing.T) {
	t.Parallel()
	_, last, _, data := eventful(t)
	c := restored(t, data, cluster.Config{})
	config := c.NodeConfig("n2")
	folder, err := storage.Open(t.Context(), storage.Config{
		Dir: config.DataDir, ID: "n2", Cities: config.Cities, Logger: slog.New(slog.DiscardHandler), RaftLogger: hclog.NewNullLogger(),
		Fail: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	var configuration raft.Configuration
	for _, id := range c.IDs() {
		configuration.Servers = append(configuration.Servers, raft.Server{ID: raft.ServerID(id + ".1"), Address: raft.ServerAddress(id)})
	}
	if err := errors.Join(folder.Descend(configuration), folder.Close()); err != nil {
		t.Fatal(err)
	}
	c.StartNode("n2")
	waitCandidate(c, "n2")
	c.StartNode("n1")
	c.WaitReady("n1")
	c.WaitReady("n2")
	expectAllBookings(t, c, last)
	c.WaitEqual()
}

// TestNodesOfDifferentOrigins starts nodes that do not belong together: each says why it does not take part, and no data
// changes.
func TestNodesOfDifferentOrigins(t *testing.T) {
	t.Parallel()
	old, _, origin, data := eventful(t)
	old.Propose(batch(6, book("MTL", 6000)))
	_, other := save(t, old, "n3", origin.Index+1)
	const refusal = "all restored from the same backup, or none is"

	t.Run("two restored, one empty", func(t *testing.T) {
		t.Parallel()
		c := cluster.New(t, cluster.Config{})
		restore(t, data, c.Dir("n1"), c.Dir("n2"))
		c.StartNode("n1")
		c.StartNode("n2")
		c.WaitReady("n1")
		c.StartNode("n3")
		expectRefusal(t, c, "n3", refusal)
		c.WaitReady("n2")
	})
	t.Run("one restored, two empty", func(t *testing.T) {
		t.Parallel()
		c := cluster.New(t, cluster.Config{})
		restore(t, data, c.Dir("n1"))
		c.StartNode("n1")
		c.Eventually("n1 waits", func(ctx context.Context) error { _, err := c.Replica("n1").Status(ctx); return err })
		c.StartNode("n2")
		expectRefusal(t, c, "n2", refusal)
		if err := c.DropNode("n1"); err != nil && !strings.Contains(err.Error(), refusal) { // if it has seen n2, it has refused, too
			t.Error(err)
		}
	})
	t.Run("restored later than the others", func(t *testing.T) {
		t.Parallel()
		c := cluster.New(t, cluster.Config{})
		restore(t, data, c.Dir("n1"))
		c.StartNode("n2")
		c.StartNode("n3")
		c.WaitReady("n2")
		c.WaitReady("n3")
		c.StartNode("n1")
		expectRefusal(t, c, "n1", refusal)
	})
	t.Run("another backup", func(t *testing.T) {
		t.Parallel()
		c := cluster.New(t, cluster.Config{})
		restore(t, data, c.Dir("n1"), c.Dir("n2"))
		restore(t, other, c.Dir("n3"))
		c.StartNode("n1")
		c.StartNode("n2")
		c.WaitReady("n1")
		c.WaitReady("n2")
		c.StartNode("n3")
		expectRefusal(t, c, "n3", refusal)
	})
	t.Run("members of both", func(t *testing.T) {
		t.Parallel()
		testMembersOfDifferentClusters(t, data, other, refusal)
	})
}

// expectRefusal waits until a node has ended with an error.
func expectRefusal(t *testing.T, c *cluster.Cluster, id dems.NodeID, want string) {
	t.Helper()
	select {
	case <-c.Node(id).Done():
	case <-time.After(20 * time.Second):
		t.Fatalf("%s goes on", id)
	}
	if err := c.DropNode(id); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want an error with %q", id, err, want)
	}
}

// testMembersOfDifferentClusters gives a node the folder of a member of another cluster, whose log has entries at the same indexes
// and in the same term as that of its peers.
func testMembersOfDifferentClusters(t *testing.T, data, other []byte, refusal string) {
	strangers := restored(t, other, cluster.Config{})
	startAll(strangers)
	strangers.OpenSession(session)
	for number := range 30 {
		strangers.Propose(batch(number+1, book("MTL", 7000+number)))
	}
	strangers.WaitEqual()
	c := restored(t, data, cluster.Config{})
	startAll(c)
	c.OpenSession(session)
	c.Propose(batch(1, book("MTL", 8000)))
	for _, id := range strangers.IDs() {
		strangers.StopNode(id)
	}
	c.StopNode("n3")
	own := filepath.Join(t.TempDir(), "own")
	if err := errors.Join(os.Rename(c.Dir("n3"), own), os.CopyFS(c.Dir("n3"), os.DirFS(strangers.Dir("n3")))); err != nil {
		t.Fatal(err)
	}
	c.StartNode("n3")
	expectRefusal(t, c, "n3", refusal)
	c.Propose(batch(2, book("MTL", 8001)))
	if err := errors.Join(os.RemoveAll(c.Dir("n3")), os.Rename(own, c.Dir("n3"))); err != nil {
		t.Fatal(err)
	}
	c.StartNode("n3")
	c.WaitReady("n3")
	c.WaitEqual()
}

// TestRestoreRefusesDamage gives Restore backups that are damaged somewhere, or another's: nothing is written.
func TestRestoreRefusesDamage(t *testing.T) {
	t.Parallel()
	_, _, _, data := eventful(t)
	dir := filepath.Join(t.TempDir(), "n1")
	refuse := func(what string, at int, damaged []byte) {
		t.Helper()
		if _, err := node.Restore(t.Context(), bytes.NewReader(damaged), nil, dir); !errors.Is(err, backup.ErrDamaged) {
			t.Fatalf("%s at byte %d of %d: %v", what, at, len(data), err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s at byte %d: the folder was made", what, at)
		}
	}
	for at := 0; at < len(data); at += 1 + len(data)/300 {
		damaged := slices.Clone(data)
		damaged[at] ^= 1 << (at % 8)
		refuse("flipped", at, damaged)
		refuse("cut", at, data[:at])
	}
	refuse("cut", len(data)-1, data[:len(data)-1])
	refuse("longer", len(data), append(slices.Clone(data), 0))
	fewer := dems.DefaultCities()[:2]
	if _, err := node.Restore(t.Context(), file(t, data), fewer, dir); err == nil || !strings.Contains(err.Error(), "cities of a cluster do not change") {
		t.Errorf("for other cities: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := node.Restore(ended, file(t, data), nil, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("the folder was made")
	}
}

// changing is a backup that is another one when it is read for the second time.
type changing struct {
	*bytes.Reader
	second []byte
	begun  bool
}

func (c *changing) Seek(offset int64, whence int) (int64, error) {
	if c.begun {
		c.Reset(c.second)
	}
	c.begun = true
	return c.Reader.Seek(offset, whence)
}

// TestBackupThatChangesWhileItIsRestored leaves an empty folder.
func TestBackupThatChangesWhileItIsRestored(t *testing.T) {
	t.Parallel()
	c, _, origin, data := eventful(t)
	c.Propose(batch(6, book("MTL", 6000)))
	_, other := save(t, c, "n1", origin.Index+1)
	damaged := slices.Clone(data)
	damaged[len(damaged)-100] ^= 1
	for name, second := range map[string][]byte{"another": other, "damaged": damaged, "cut": data[:len(data)/2]} {
		dir := t.TempDir()
		if _, err := node.Restore(t.Context(), &changing{Reader: bytes.NewReader(data), second: second}, nil, dir); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}
