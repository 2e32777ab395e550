package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/internal/cluster"
	"dems/node"
	"dems/node/storage"
	"dems/transport"

	"github.com/hashicorp/raft"
)

// snapshotsOften makes nodes take snapshots after a few entries and keep a short log.
func snapshotsOften(config *node.Config) {
	config.SnapshotInterval, config.SnapshotThreshold, config.TrailingLogs = 20*time.Millisecond, 16, 8
}

// losePower cuts the city logs of a stopped node anywhere after what is durable for certain, and puts garbage where
// unwritten blocks may be.
func losePower(t *testing.T, random *rand.Rand, dir string) {
	t.Helper()
	indexes, err := filepath.Glob(filepath.Join(dir, "logs", "*.index"))
	if err != nil || len(indexes) == 0 {
		t.Fatalf("no city logs: %v", err)
	}
	for _, index := range indexes {
		data, err := os.ReadFile(index)
		if err != nil {
			t.Fatal(err)
		}
		durable := 0
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		if fields := strings.Fields(lines[len(lines)-1]); len(lines) > 1 {
			if durable, err = strconv.Atoi(fields[3]); err != nil {
				t.Fatal(err)
			}
		}
		path := strings.TrimSuffix(index, "index") + "log"
		records, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		cut := durable + random.IntN(len(records)-durable+1)
		torn := append(records[:cut:cut], make([]byte, random.IntN(2)*random.IntN(4096))...)
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCrashesLoseNothing kills nodes at random while batches are proposed, a minority or all of them, with and without
// loss of what was not yet on the disk. Every acknowledged booking is there afterwards, once, and all city logs are equal.
func TestCrashesLoseNothing(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	c := cluster.Start(t, cluster.Config{Change: snapshotsOften})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 10_000)))
	number := 1
	for round := range 4 {
		for range 10 + random.IntN(20) {
			number++
			if result := outcome(t, c.Propose(batch(number, book("MTL", number)))); result.Outcome != dems.Booked {
				t.Fatalf("batch %d: %+v", number, result)
			}
		}
		victims := c.IDs()
		random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
		if round%2 == 0 {
			victims = victims[:1]
		}
		for _, id := range victims {
			c.KillNode(id)
			losePower(t, random, c.Dir(id))
		}
		for _, id := range victims {
			c.StartNode(id)
		}
		for _, id := range victims {
			c.WaitReady(id)
		}
	}
	c.WaitEqual()
	records, err := cluster.CityLog(t.Context(), c.Node("n1"), dems.City{'M', 'T', 'L'})
	if booked := bytes.Count(records, []byte(`"outcome":"booked"`)); err != nil || booked != number-1 {
		t.Fatalf("%d bookings in the city log, want %d, %v", booked, number-1, err)
	}
	if result := read(t, c, "n2", 0, availability()); result.Events[0].Booked != uint32(number-1) {
		t.Fatalf("%+v, want %d bookings", result.Events, number-1)
	}
}

// TestNodeThatWasAwayTakesOverASnapshot has a node miss more than the log keeps. It gets the leader's snapshot, and the
// city log records before it from its peers.
func TestNodeThatWasAwayTakesOverASnapshot(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{Change: snapshotsOften})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 10_000)))
	c.WaitEqual()
	away := others(c, c.WaitLeader())[0]
	c.KillNode(away)
	number := 1
	for range 100 {
		number++
		c.Propose(batch(number, bookings(number, 5)...))
	}
	c.Eventually("the log was compacted", func(context.Context) error {
		for _, id := range c.IDs() {
			if id == away {
				continue
			}
			if last, err := strconv.Atoi(c.Node(id).Raft().Stats()["last_snapshot_index"]); err != nil || last < 64 {
				return fmt.Errorf("%s: snapshot at %d, %v", id, last, err)
			}
		}
		return nil
	})
	c.StartNode(away)
	c.WaitReady(away)
	for range 10 { // records go on while the history is fetched
		number++
		c.Propose(batch(number, bookings(number, 5)...))
	}
	c.WaitEqual()
	if snapshots, err := os.ReadDir(filepath.Join(c.Dir(away), "snapshots")); err != nil || len(snapshots) == 0 {
		t.Fatalf("no snapshot arrived: %v", err)
	}
	c.KillNode(away)
	c.StartNode(away)
	c.WaitReady(away)
	c.WaitEqual()
	if members := c.Status(away).Members; len(members) != 3 {
		t.Fatalf("members %+v", members)
	}
}

// TestRestartedNodeDoesNotAnswerFromThePast cuts a node off from everybody after a restart: it knows less than it has
// voted for, and must not answer from it.
func TestRestartedNodeDoesNotAnswerFromThePast(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 10)))
	reply := c.Propose(batch(2, book("MTL", 1)))
	c.WaitEqual()
	id := others(c, c.WaitLeader())[0]
	c.KillNode(id)
	isolate(c, id)
	restarted := c.StartNode(id)
	queries := dems.QueryBatch{Queries: []dems.Query{schedule(1)}}
	if _, err := restarted.Query(t.Context(), queries); kind(t, err) != dems.NotReady {
		t.Fatal(err)
	}
	if status := c.Status(id); status.Ready || status.Fresh || status.Applied >= reply.Vote.Index || len(status.Members) != 3 {
		t.Fatalf("%+v", status)
	}
	c.Network.Heal()
	c.WaitReady(id)
	if result := read(t, c, id, 0, schedule(1)); len(result.Bookings) != 1 {
		t.Fatalf("%+v", result)
	}
}

// TestLogEndCutOffByANewLeader restarts a node whose log ends in entries that a newer leader has thrown away. Nothing more
// is proposed, so it never applies their indexes: the leader has to tell it that it has caught up.
func TestLogEndCutOffByANewLeader(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 1000)))
	waitSettled(c)
	old := fillAlone(t, c)
	longest := c.Node(old).Raft().LastIndex()
	c.KillNode(old)
	reply := c.Propose(batch(2, book("MTL", 2)))
	if reply.Vote.Index >= longest {
		t.Fatalf("index %d is not before the end %d of the old log", reply.Vote.Index, longest)
	}
	right := read(t, c, others(c, old)[0], reply.Vote.Index, availability())
	c.Network.Heal()
	c.StartNode(old)
	c.WaitReady(old)
	if result := read(t, c, old, reply.Vote.Index, availability()); result.Events[0].Booked != right.Events[0].Booked {
		t.Fatalf("%+v, and %+v elsewhere", result, right)
	}
	if applied := c.Status(old).Applied; applied >= longest {
		t.Fatalf("applied %d: the situation is not the one to be tested", applied)
	}
	c.WaitEqual()
}

// fillAlone isolates the leader, has its log alone take at least ten entries, and returns its ID.
func fillAlone(t *testing.T, c *cluster.Cluster) (old dems.NodeID) {
	c.Eventually("the log of a leader alone is longer", func(context.Context) error {
		old = c.WaitLeader()
		isolate(c, old)
		ctx, cancel := context.WithCancel(t.Context())
		var proposing sync.WaitGroup
		defer proposing.Wait()
		defer cancel()
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		before := c.Node(old).Raft().LastIndex()
		for number := 100; number < 140; number++ {
			proposing.Go(func() {
				if _, err := c.Node(old).Propose(ctx, batch(number, book("MTL", number))); err == nil {
					t.Error("committed alone")
				}
			})
		}
		for c.Node(old).Raft().LastIndex() < before+10 {
			if c.Node(old).Raft().State() != raft.Leader { // too late, on a starved machine
				cancel()
				proposing.Wait()
				c.Network.Heal()
				return fmt.Errorf("%s has lost its office", old)
			}
			<-ticker.C
		}
		return nil
	})
	return old
}

// TestLostDataFolder empties a member's folder. It must not come back as if it had never been there, while a node that
// really was not may come late.
func TestLostDataFolder(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Config{})
	c.StartNode("n1")
	waiting := c.Status("n1")
	if !waiting.Fresh || waiting.Ready || len(waiting.Members) != 0 {
		t.Fatalf("alone: %+v", waiting)
	}
	c.StartNode("n2")
	c.WaitReady("n1")
	c.WaitReady("n2")
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 10)))

	c.StartNode("n3") // late, and new
	c.WaitReady("n3")
	c.WaitEqual()
	c.Eventually("n3 is registered", func(ctx context.Context) error {
		reply, err := c.Replica("n1").Query(ctx, dems.QueryBatch{Queries: []dems.Query{{Kind: dems.RegistryQuery}}})
		if err == nil && !bytes.Contains(reply.Answers[0].Result, []byte("n3")) {
			err = errors.New("not yet")
		}
		return err
	})
	c.KillNode("n3")
	if err := os.RemoveAll(c.Dir("n3")); err != nil {
		t.Fatal(err)
	}
	lost := c.StartNode("n3")
	if err := lost.Err(); err == nil || !strings.Contains(err.Error(), "this node has been a member before") {
		t.Fatalf("%v", err)
	}
	if _, err := lost.Query(t.Context(), dems.QueryBatch{}); kind(t, err) != dems.NotReady {
		t.Fatal(err)
	}
	_ = c.DropNode("n3")
	c.Propose(batch(2, book("MTL", 1)))
}

// TestRefusedStarts damages a node's folder in ways that only the node as a whole can see.
func TestRefusedStarts(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{Nodes: 1, Change: snapshotsOften})
	c.OpenSession(session)
	for number := 1; number <= 40; number++ {
		c.Propose(batch(number, addEvent("MTL", 10)))
	}
	second := c.NodeConfig("n1")
	second.Endpoint = &transport.Endpoint{}
	if _, err := node.Open(t.Context(), second); !errors.Is(err, storage.ErrInUse) {
		t.Fatalf("opened twice: %v", err)
	}
	c.Eventually("a snapshot", func(context.Context) error {
		if c.Node("n1").Raft().Stats()["last_snapshot_index"] == "0" {
			return errors.New("not yet")
		}
		return nil
	})
	c.StopNode("n1")
	folder := filepath.Join(c.Dir("n1"), "snapshots")
	ids, err := os.ReadDir(folder)
	if err != nil || len(ids) == 0 {
		t.Fatalf("%v %v", ids, err)
	}
	// A snapshot whose own checksum is right and whose content is no state.
	store, err := raft.NewFileSnapshotStore(c.Dir("n1"), 2, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	metas, err := store.List()
	if err != nil {
		t.Fatal(err)
	}
	_, inMemory := raft.NewInmemTransport("n1")
	sink, err := store.Create(1, metas[0].Index, metas[0].Term, metas[0].Configuration, metas[0].ConfigurationIndex, inMemory)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(sink, "no state")
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.TryStartNode("n1"); err == nil || !strings.Contains(err.Error(), "cannot be restored") {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(folder, sink.ID())); err != nil {
		t.Fatal(err)
	}
	c.StartNode("n1") // nothing was changed by trying
	c.WaitReady("n1")
}

// TestEntryThatCannotBeAppliedStopsTheNode puts an entry into the log that the node's own checks would have kept out.
func TestEntryThatCannotBeAppliedStopsTheNode(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{Nodes: 1})
	n := c.Node("n1")
	_ = n.Raft().Apply([]byte("nonsense"), time.Second).Error()
	if err := n.Err(); err == nil || !strings.Contains(err.Error(), "apply log entry: index") {
		t.Fatal(err)
	}
	if _, err := n.Query(t.Context(), dems.QueryBatch{}); kind(t, err) != dems.NotReady {
		t.Error(err)
	}
	if _, err := n.Propose(t.Context(), batch(1, book("MTL", 1))); kind(t, err) != dems.NotApplied {
		t.Error(err)
	}
	_ = c.DropNode("n1")
	if _, err := c.TryStartNode("n1"); err == nil || !strings.Contains(err.Error(), "is corrupt at index") {
		t.Fatal(err)
	}
}
