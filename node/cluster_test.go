package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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

	"github.com/prometheus/client_golang/prometheus"
)

// kind returns what kind of ReplicaError an error is; it fails the test for any other error.
func kind(t testing.TB, err error) dems.ReplicaErrorKind {
	t.Helper()
	got, ok := errors.AsType[*dems.ReplicaError](err)
	if !ok {
		t.Fatalf("no ReplicaError: %v", err)
	}
	return got.Kind
}

// others returns the running nodes that do not lead.
func others(c *cluster.Cluster, leader dems.NodeID) []dems.NodeID {
	var ids []dems.NodeID
	for _, id := range c.IDs() {
		if id != leader && c.Node(id) != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

func TestEveryNodeVotesTheSame(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	c.OpenSession(session)
	ctx, cancel := context.WithCancel(t.Context())
	votes := make(chan dems.Vote, 100)
	var group sync.WaitGroup
	for _, id := range c.IDs() {
		group.Go(func() {
			_ = c.Replica(id).Votes(ctx, session, func(got []dems.Vote) error {
				for _, vote := range got {
					votes <- vote
				}
				return nil
			})
		})
	}
	reply := c.Propose(batch(1, addEvent("MTL", 2), book("MTL", 1), book("MTL", 2), book("MTL", 3)))
	results, err := dems.DecodeResults(reply.Results)
	if err != nil || len(results) != 4 || results[2].Outcome != dems.Booked || results[3].Code != dems.EventFull {
		t.Fatalf("%+v %v", results, err)
	}
	voted := make(map[dems.NodeID]bool)
	for len(voted) < 3 {
		vote := <-votes
		if vote.Batch != 1 || vote.Index < reply.Vote.Index {
			continue // the registration of the session, or an attempt to propose the batch whose answer did not come in time
		}
		if vote.Results != dems.DigestOf(reply.Results) || vote.State != reply.Vote.State || vote.Index != reply.Vote.Index {
			t.Fatalf("%+v, the leader has %+v", vote, reply.Vote)
		}
		voted[vote.Node] = true
	}
	cancel()
	group.Wait()
	for _, id := range c.IDs() { // who asks later gets the same
		got, err := c.Replica(id).Results(t.Context(), session, 1)
		if err != nil || !bytes.Equal(got.Results, reply.Results) || got.Vote.Node != id {
			t.Errorf("%s: %+v %v", id, got, err)
		}
		again, stop := context.WithCancel(t.Context())
		err = c.Replica(id).Votes(again, session, func(got []dems.Vote) error {
			if last := got[len(got)-1]; len(got) < 2 || last.Batch != 1 || last.State != reply.Vote.State {
				t.Errorf("%s replays %+v", id, got)
			}
			stop()
			return nil
		})
		if again.Err() == nil {
			t.Errorf("%s: %v", id, err)
		}
		stop()
	}
	if _, err := c.Replica("n1").Results(t.Context(), session, 2); kind(t, err) != dems.NotReady {
		t.Error(err)
	}
	c.WaitEqual()
}

// TestLeaderKilledWithProposalsInFlight kills leaders while batches are on their way. Their front end proposes every batch
// again, under its number, until it has an answer; each must have its effect once.
func TestLeaderKilledWithProposalsInFlight(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 1000)))
	number := 1
	for range 3 {
		leader := c.WaitLeader()
		var group sync.WaitGroup
		first := number + 1
		for range dems.MaxBatchesInFlight {
			number++
			entry := batch(number, book("MTL", number))
			group.Go(func() { _, _ = c.Replica(leader).Propose(t.Context(), entry) })
		}
		c.KillNode(leader)
		group.Wait()
		for ; first <= number; first++ {
			if result := outcome(t, c.Propose(batch(first, book("MTL", first)))); result.Outcome != dems.Booked {
				t.Fatalf("batch %d: %+v", first, result)
			}
		}
		c.StartNode(leader)
		c.WaitReady(leader)
	}
	c.WaitEqual()
	for _, id := range c.IDs() {
		result := read(t, c, id, 0, availability())
		if len(result.Events) != 1 || result.Events[0].Booked != uint32(number-1) {
			t.Fatalf("%s: %+v, want %d bookings", id, result.Events, number-1)
		}
	}
}

// availability returns the query for all events.
func availability() dems.Query {
	return dems.Query{Kind: dems.OperationQuery, Log: true, Command: dems.Command{
		Op: dems.ListEventAvailability, Time: time.UnixMilli(4), By: user(dems.Manager, 1), Event: dems.EventKey{Type: dems.Seminar},
	}}
}

// read asks one node, which must answer.
func read(t *testing.T, c *cluster.Cluster, id dems.NodeID, minIndex uint64, query dems.Query) dems.Result {
	t.Helper()
	reply, err := c.Replica(id).Query(t.Context(), dems.QueryBatch{MinIndex: minIndex, Queries: []dems.Query{query}})
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	results, err := dems.DecodeResults(reply.Answers[0].Result)
	if err != nil || len(results) != 1 || reply.Applied < minIndex || reply.Node != id {
		t.Fatalf("%s: %+v %v", id, reply, err)
	}
	return results[0]
}

func TestReadsWaitForAnIndexAndAreRecorded(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	c.OpenSession(session)
	leader := c.WaitLeader()
	follower := others(c, leader)[0]
	var indexes []uint64
	for number := 1; number <= 20; number++ {
		reply := c.Propose(batch(number, addEvent("MTL", uint32(number))))
		indexes = append(indexes, reply.Vote.Index)
		result := read(t, c, follower, reply.Vote.Index, availability())
		if len(result.Events) != 1 || result.Events[0].Capacity != uint32(number) {
			t.Fatalf("after batch %d: %+v", number, result)
		}
	}
	c.Eventually("the reads are in the city log", func(context.Context) error {
		data, err := os.ReadFile(filepath.Join(c.Dir(follower), "logs", "MTL.log"))
		lines := regexp.MustCompile(`"seq":(\d+),"op":"listEventAvailability"`).FindAllSubmatch(data, -1)
		if err == nil && len(lines) != 20 {
			return errors.New("too few")
		}
		for i, line := range lines { // an index at which the answer holds
			if seq, _ := strconv.ParseUint(string(line[1]), 10, 64); seq < indexes[i] {
				return fmt.Errorf("read %d is recorded at %d, before %d", i, seq, indexes[i])
			}
		}
		return err
	})
	status := c.Status(follower)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Node(follower).Query(ctx, dems.QueryBatch{MinIndex: status.Applied + 1000}); kind(t, err) != dems.NotReady {
		t.Error(err)
	}
	for _, queries := range [][]dems.Query{make([]dems.Query, dems.MaxQueries+1), {{}}, {{Kind: dems.OperationQuery, Command: book("MTL", 1)}}} {
		if _, err := c.Node(follower).Query(t.Context(), dems.QueryBatch{Queries: queries}); kind(t, err) != dems.BadRequest {
			t.Error(err)
		}
	}
	c.WaitEqual() // ordered records are the same, whatever was read where
}

func TestWhatCannotBeProposed(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{Change: func(config *node.Config) {
		config.MaxProposals, config.MaxQueries = 1, 1
	}})
	for _, entry := range [][]byte{nil, []byte("nonsense"), make([]byte, dems.MaxEntryBytes+1)} {
		waitRefused(t, c, func(ctx context.Context, leader dems.NodeID) error {
			_, err := c.Node(leader).Propose(ctx, entry)
			return err
		})
	}
	var leader dems.NodeID
	c.Eventually("a follower names the leader", func(ctx context.Context) error {
		leader = c.WaitLeader()
		follower := c.Replica(others(c, leader)[0])
		_, err := follower.Propose(ctx, batch(1, book("MTL", 1)))
		refused, ok := errors.AsType[*dems.ReplicaError](err)
		if !ok || refused.Kind != dems.NotLeader || refused.Leader != leader {
			return fmt.Errorf("%s leads: %w", leader, err)
		}
		if index, err := follower.ReadIndex(ctx); err == nil || kind(t, err) != dems.NotLeader {
			return fmt.Errorf("%s leads: a read index of %d, %w", leader, index, err)
		}
		return nil
	})
	// Alone, the leader cannot commit: one proposal hangs, the next is refused, and the first has an unknown outcome.
	isolate(c, leader)
	hanging := make(chan error, 1)
	go func() {
		_, err := c.Node(leader).Propose(t.Context(), batch(1, book("MTL", 1)))
		hanging <- err
	}()
	c.Eventually("the limit is reached", func(ctx context.Context) error {
		_, err := c.Node(leader).Propose(ctx, batch(2, book("MTL", 1)))
		switch kind(t, err) {
		case dems.NotApplied:
			return nil
		case dems.NotLeader: // too late: it has stepped down; the first must be over then
			return nil
		}
		return err
	})
	if err := <-hanging; kind(t, err) != dems.UnknownOutcome && kind(t, err) != dems.NotApplied && kind(t, err) != dems.NotLeader {
		t.Error(err)
	}
	c.Network.Heal()
	c.WaitEqual()
}

// waitRefused asks whoever leads, until the answer is that of a leader: a refusal for good.
func waitRefused(t *testing.T, c *cluster.Cluster, ask func(ctx context.Context, leader dems.NodeID) error) {
	t.Helper()
	c.Eventually("the leader refuses it", func(ctx context.Context) error {
		err := ask(ctx, c.WaitLeader())
		if err == nil {
			t.Fatal("it was taken")
		}
		if kind(t, err) != dems.BadRequest {
			return err
		}
		return nil
	})
}

// isolate cuts a node off from the others in both directions.
func isolate(c *cluster.Cluster, id dems.NodeID) {
	var rest []string
	for _, other := range c.IDs() {
		if other != id {
			rest = append(rest, c.Address(other))
		}
	}
	c.Network.Partition([]string{c.Address(id)}, rest)
}

func TestMinorityStops(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 10)))
	old := c.WaitLeader()
	isolate(c, old)
	c.Eventually("the leader alone steps down", func(context.Context) error {
		if c.Status(old).Leader == old {
			return errors.New("it still leads")
		}
		return nil
	})
	if _, err := c.Node(old).Propose(t.Context(), batch(9, book("MTL", 9))); kind(t, err) != dems.NotLeader {
		t.Error(err)
	}
	if result := outcome(t, c.Propose(batch(2, book("MTL", 1)))); result.Outcome != dems.Booked {
		t.Fatalf("the majority: %+v", result)
	}
	c.Network.Heal()
	c.WaitEqual()
}

func TestTransfer(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	leader := c.WaitLeader()
	next := others(c, leader)[0]
	if err := c.Replica(next).Transfer(t.Context(), leader); kind(t, err) != dems.NotLeader {
		t.Error(err)
	}
	if err := c.Node(leader).Transfer(t.Context(), "n9"); kind(t, err) != dems.BadRequest && kind(t, err) != dems.NotLeader {
		t.Error(err)
	}
	if err := c.Node(leader).Transfer(t.Context(), leader); err != nil && kind(t, err) != dems.NotLeader {
		t.Error(err)
	}
	c.Eventually("leadership is handed to a node", func(ctx context.Context) error {
		if leader = c.WaitLeader(); leader == next {
			return nil
		}
		return errors.Join(c.Replica(leader).Transfer(ctx, next), errors.New("look again"))
	})
	c.Eventually("leadership is handed to any node", func(ctx context.Context) error {
		if c.WaitLeader() != next {
			return nil
		}
		return errors.Join(c.Replica(next).Transfer(ctx, ""), errors.New("look again"))
	})
}

func TestStoppedLeaderHandsOver(t *testing.T) {
	const heartbeat = 4 * time.Second
	t.Parallel()
	c := cluster.Start(t, cluster.Config{Change: func(config *node.Config) {
		config.HeartbeatTimeout = heartbeat // an election would take longer than that
	}})
	c.OpenSession(session)
	leader := c.WaitLeader()
	stopped := c.Node(leader)
	start := time.Now()
	c.StopNode(leader)
	c.WaitLeader()
	c.Propose(batch(1, addEvent("MTL", 10)))
	if took := time.Since(start); took > heartbeat {
		t.Errorf("it took %v until the next leader worked", took)
	}
	for name, err := range map[string]error{
		"Propose":   func() error { _, err := stopped.Propose(t.Context(), batch(2, book("MTL", 1))); return err }(),
		"Query":     func() error { _, err := stopped.Query(t.Context(), dems.QueryBatch{}); return err }(),
		"Votes":     stopped.Votes(t.Context(), 1, nil),
		"Results":   func() error { _, err := stopped.Results(t.Context(), session, 1); return err }(),
		"Status":    func() error { _, err := stopped.Status(t.Context()); return err }(),
		"CityLog":   func() error { _, err := stopped.CityLog(t.Context(), dems.City{'M', 'T', 'L'}, 0, 1); return err }(),
		"ReadIndex": func() error { _, err := stopped.ReadIndex(t.Context()); return err }(),
		"Transfer":  stopped.Transfer(t.Context(), ""),
	} {
		if got := kind(t, err); got != dems.NotApplied && got != dems.NotReady {
			t.Errorf("%s of a stopped node: %v", name, err)
		}
	}
}

func TestNodeWithOtherCitiesIsRefused(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Config{Change: func(config *node.Config) {
		if config.ID == "n3" {
			config.Cities = dems.Cities{{City: dems.City{'M', 'T', 'L'}, Name: "Montréal"}}
		}
	}})
	for _, id := range c.IDs() {
		c.StartNode(id)
	}
	if err := c.Node("n3").Err(); err == nil || !strings.Contains(err.Error(), "the cluster refuses this node") ||
		!strings.Contains(err.Error(), "Montréal") {
		t.Fatal(err)
	}
	c.WaitReady("n1")
	c.WaitReady("n2")
	_ = c.DropNode("n3")
	c.OpenSession(session)
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	c := cluster.Start(t, cluster.Config{Change: func(config *node.Config) {
		if config.ID == "n1" {
			config.Metrics = registry
		}
	}})
	c.Eventually("all nodes are registered", func(ctx context.Context) error {
		reply, err := c.Replica("n2").Query(ctx, dems.QueryBatch{Queries: []dems.Query{{Kind: dems.RegistryQuery}}})
		if err != nil {
			return err
		}
		known, err := dems.DecodeRegistry(reply.Answers[0].Result)
		if err != nil || len(known.Nodes) != 3 {
			return errors.Join(err, errors.New("too few"))
		}
		for _, n := range known.Nodes {
			if n.Address != c.Address(dems.NodeID(n.ID)) || n.Version != "test" || n.Incarnation != 1 {
				t.Fatalf("%+v", n)
			}
		}
		return nil
	})
	families, err := registry.Gather()
	if err != nil || len(families) != 11 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
	c.StopNode("n1")
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Fatalf("%d metrics are left, %v", len(families), err)
	}
}

func TestEndpointOfAnotherNode(t *testing.T) {
	c := cluster.New(t, cluster.Config{Nodes: 1})
	config := c.NodeConfig("n1")
	config.Endpoint = c.Endpoint(transport.RoleNode, "n2")
	defer config.Endpoint.Close()
	n, err := node.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate is for n2") {
		t.Fatal(err)
	}
}

func TestNodeThatNeverRuns(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Config{Nodes: 1})
	registry := prometheus.NewRegistry()
	for range 2 { // nothing is left of the first
		config := c.NodeConfig("n1")
		config.Metrics = registry
		config.Endpoint = c.Endpoint(transport.RoleNode, "n1")
		n, err := node.Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Propose(t.Context(), nil); kind(t, err) != dems.NotApplied {
			t.Error(err)
		}
		if _, err := n.Query(t.Context(), dems.QueryBatch{}); kind(t, err) != dems.NotReady {
			t.Error(err)
		}
		if status, err := n.Status(t.Context()); err != nil || !status.Fresh || status.Ready {
			t.Errorf("%+v %v", status, err)
		}
		if _, err := node.Open(t.Context(), config); !errors.Is(err, storage.ErrInUse) {
			t.Errorf("opened twice: %v", err)
		}
		if err := errors.Join(n.Close(), n.Close(), config.Endpoint.Close()); err != nil {
			t.Fatal(err)
		}
	}
	config := c.NodeConfig("n1")
	config.Metrics, config.Endpoint = registry, c.Endpoint(transport.RoleNode, "n1")
	defer config.Endpoint.Close()
	taken := prometheus.NewGauge(prometheus.GaugeOpts{Name: "dems_node_term", Help: "Raft term."})
	if err := registry.Register(taken); err != nil {
		t.Fatal(err)
	}
	if _, err := node.Open(t.Context(), config); err == nil {
		t.Error("opened though a metric's name is taken")
	}
	registry.Unregister(taken)
	n, err := node.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNodeWhoseSocketBreaksStops(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{Nodes: 1})
	if err := c.Network.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Node("n1").Err(); err == nil || !strings.Contains(err.Error(), "the UDP socket failed") {
		t.Fatal(err)
	}
	_ = c.DropNode("n1")
}

// TestFollowersLearnOfCommitsAtOnce has Raft itself tell followers of commits later than the test waits.
func TestFollowersLearnOfCommitsAtOnce(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{Change: func(config *node.Config) { config.CommitTimeout = time.Hour }})
	c.OpenSession(session)
	for number := 1; number <= 5; number++ {
		reply := c.Propose(batch(number, addEvent("MTL", 10)))
		c.Eventually("a majority applies it", func(context.Context) error { // who has no such entry yet refuses to be told of it
			applied := 0
			for _, id := range c.IDs() {
				if c.Status(id).Applied >= reply.Vote.Index {
					applied++
				}
			}
			if applied < 2 {
				return fmt.Errorf("%d of 3 have applied %d", applied, reply.Vote.Index)
			}
			return nil
		})
		c.Eventually("the leader's index covers what was acknowledged", func(ctx context.Context) error {
			index, err := c.Replica(c.WaitLeader()).ReadIndex(ctx)
			if err == nil && index < reply.Vote.Index {
				t.Fatalf("index %d, acknowledged %d", index, reply.Vote.Index)
			}
			return err
		})
	}
}
