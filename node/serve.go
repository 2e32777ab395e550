package node

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"dems"
	"dems/fsm"
	"dems/node/citylog"

	"github.com/hashicorp/raft"
)

// bounded gives a context a deadline if it has none.
func (n *Node) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, bounded := ctx.Deadline(); bounded {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, n.config.WaitTimeout)
}

// waitApplied waits until an entry is applied, ctx ends or the node stops.
func (n *Node) waitApplied(ctx context.Context, index uint64) error {
	if index <= n.state.applied.get() {
		return nil
	}
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	defer context.AfterFunc(n.work, cancel)()
	if err := n.state.applied.wait(ctx, index); err != nil {
		if n.work.Err() != nil {
			return replicaError(dems.NotReady, errStopping)
		}
		return replicaError(dems.NotReady, fmt.Errorf("index %d: %w", index, errBehind))
	}
	return nil
}

// Query implements transport.Handler. Every answer holds at one index, which is at least batch.MinIndex. A node that has
// not caught up with what it knew before its start does not answer: its state may be older than one it has voted with. Nor
// does one that is no voter: a front end that has missed a change of the configuration may still count it.
func (n *Node) Query(ctx context.Context, batch dems.QueryBatch) (dems.QueryReply, error) {
	if err := checkQueries(batch.Queries); err != nil {
		return dems.QueryReply{}, replicaError(dems.BadRequest, err)
	}
	if err := n.mayAnswer(); err != nil {
		return dems.QueryReply{}, err
	}
	select {
	case n.queries <- struct{}{}:
		defer func() { <-n.queries }()
	default:
		return dems.QueryReply{}, replicaError(dems.NotReady, errBusy)
	}
	if err := n.waitApplied(ctx, batch.MinIndex); err != nil {
		return dems.QueryReply{}, err
	}
	reply := dems.QueryReply{Node: n.config.ID, Incarnation: n.folder.Marker.Incarnation, Answers: make([]dems.Answer, len(batch.Queries))}
	n.state.view(func(machine *fsm.Machine) {
		reply.Applied = machine.Index()
		for i := range batch.Queries {
			reply.Answers[i] = machine.Query(&batch.Queries[i])
		}
	})
	if n.hasFailed() { // while it was being answered
		return dems.QueryReply{}, replicaError(dems.NotReady, errFailed)
	}
	return reply, n.record(ctx, batch.Queries, &reply)
}

// mayAnswer returns an error unless the node's state is one that front ends may be told of.
func (n *Node) mayAnswer() error {
	_, err := n.running()
	switch {
	case err != nil:
	case !n.isReady():
		err = errCatchingUp
	case !n.state.isVoter():
		err = errNoVoter
	default:
		return nil
	}
	return replicaError(dems.NotReady, err)
}

func checkQueries(queries []dems.Query) error {
	if len(queries) > dems.MaxQueries {
		return fmt.Errorf("%d queries: at most %d", len(queries), dems.MaxQueries)
	}
	for i := range queries {
		switch q := &queries[i]; {
		case q.Kind != dems.OperationQuery && q.Kind != dems.RegistryQuery && q.Kind != dems.IncidentsQuery:
			return fmt.Errorf("query %d is of an unknown kind", i)
		case q.Kind == dems.OperationQuery && q.Command.Op.Mutates():
			return fmt.Errorf("query %d is no read but %s", i, q.Command.Op)
		}
	}
	return nil
}

// record writes reads into the city logs, each with the index that its answer holds at, which a reader can
// compare with the ordered records around it.
func (n *Node) record(ctx context.Context, queries []dems.Query, reply *dems.QueryReply) error {
	var reads []citylog.Read
	for i := range queries {
		q := &queries[i]
		if !q.Log || q.Kind != dems.OperationQuery {
			continue
		}
		results, err := dems.DecodeResults(reply.Answers[i].Result)
		if err != nil || len(results) != 1 {
			return replicaError(dems.NotReady, fmt.Errorf("answer of query %d: %w", i, err))
		}
		results[0].Sequence = reply.Applied
		line := fsm.AppendRecord(nil, &q.Command, &results[0])
		for _, city := range fsm.RecordCities(nil, n.config.Cities, &q.Command, results[0].Code) {
			reads = append(reads, citylog.Read{City: city, Line: line})
		}
	}
	if len(reads) == 0 {
		return nil
	}
	if err := n.logs.AppendReads(ctx, reads); err != nil {
		return replicaError(dems.NotReady, err)
	}
	return nil
}

// Votes implements transport.Handler.
func (n *Node) Votes(ctx context.Context, session uint64, send func([]dems.Vote) error) error {
	if _, err := n.running(); err != nil {
		return replicaError(dems.NotReady, err)
	}
	return n.state.ring.stream(ctx, n.stopped, session, send)
}

// Results implements transport.Handler. The digest of the state is missing from votes on entries that left the ring.
func (n *Node) Results(_ context.Context, session, number uint64) (dems.BatchReply, error) {
	if err := n.gone(); err != nil {
		return dems.BatchReply{}, err
	}
	if b, found := n.state.ring.find(session, number); found {
		return dems.BatchReply{Vote: b.vote, Results: b.results}, nil
	}
	var reply dems.BatchReply
	var found bool
	n.state.view(func(machine *fsm.Machine) {
		reply.Vote.Index, reply.Results, reply.Vote.Results, found = machine.Batch(session, number)
	})
	if err := n.gone(); err != nil { // while it was being looked up
		return dems.BatchReply{}, err
	}
	if !found {
		return dems.BatchReply{}, replicaError(dems.NotReady, errNotApplied)
	}
	reply.Vote.Node, reply.Vote.Incarnation = n.config.ID, n.folder.Marker.Incarnation
	reply.Vote.Session, reply.Vote.Batch = session, number
	return reply, nil
}

// Status implements transport.Handler.
func (n *Node) Status(context.Context) (dems.NodeStatus, error) {
	if err := n.gone(); err != nil {
		return dems.NodeStatus{}, err
	}
	if err := n.stalledLeader(); err != nil {
		return dems.NodeStatus{}, err
	}
	status := dems.NodeStatus{
		ID: n.config.ID, Incarnation: n.folder.Marker.Incarnation, Address: n.config.Address, Version: n.config.Version,
		Fresh: n.knowsNothing(), Ready: n.isReady(), Leader: n.leader(),
		Origin: n.folder.Marker.Origin,
	}
	if r := n.raft.Load(); r != nil {
		status.Term = r.CurrentTerm()
	}
	n.state.view(func(machine *fsm.Machine) {
		status.Applied, status.Digest, status.Standings = machine.Index(), machine.Digest(), machine.Standings()
	})
	known := n.state.getConfiguration()
	status.Configuration, status.Members = known.index, members(known.servers)
	for i := range status.Members {
		status.Members[i].Address = n.config.Peers[status.Members[i].ID]
	}
	return status, nil
}

// knowsNothing tells whether this node has learned nothing of a cluster yet. One that was restored from a backup knows an old
// cluster, and of the new one only what it has written itself.
func (n *Node) knowsNothing() bool {
	if n.state.applied.get() != n.begin || n.leader() != "" {
		return false
	}
	marker, r := n.folder.Marker, n.raft.Load()
	begins := marker.Origin != dems.Origin{} && marker.Incarnation == 1 && n.begin == marker.Origin.Index
	return n.fresh.Load() || begins && (r == nil || r.LastIndex() <= marker.Origin.Index+2)
}

// CityLog implements transport.Handler.
func (n *Node) CityLog(_ context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error) {
	if err := n.gone(); err != nil {
		return dems.CityLogPage{}, err
	}
	if !n.config.Cities.Has(city) {
		return dems.CityLogPage{}, replicaError(dems.BadRequest, fmt.Errorf("there is no city %q", city))
	}
	page, err := n.logs.Page(city, first, maxBytes)
	if err != nil {
		return dems.CityLogPage{}, replicaError(dems.NotReady, err)
	}
	return page, nil
}

// gone returns an error once the node answers nothing any more.
func (n *Node) gone() error {
	if n.hasFailed() {
		return replicaError(dems.NotReady, errFailed)
	}
	select {
	case <-n.stopped:
		return replicaError(dems.NotReady, errStopping)
	default:
		return nil
	}
}

// serverID names a node to Raft: its ID and its incarnation, so that nothing of an earlier life counts for a later one.
func serverID(id dems.NodeID, incarnation uint64) raft.ServerID {
	return raft.ServerID(string(id) + "." + strconv.FormatUint(incarnation, 10))
}

// memberID returns a node's name in the newest configuration.
func (n *Node) memberID(id dems.NodeID) (raft.ServerID, bool) {
	for _, server := range n.state.getConfiguration().servers {
		if name, _, _ := strings.Cut(string(server.ID), "."); name == string(id) && server.Suffrage == raft.Voter {
			return server.ID, true
		}
	}
	return "", false
}
