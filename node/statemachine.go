package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"dems"
	"dems/fsm"
	"dems/node/citylog"
	"dems/node/storage"

	"github.com/hashicorp/raft"
)

// stateMachine is the state machine as Raft sees it. Raft calls its methods one at a time, except Persist of a snapshot.
// It implements raft.BatchingFSM.
type stateMachine struct {
	id          dems.NodeID
	incarnation uint64
	cities      dems.Cities
	logs        *citylog.Logs
	log         *storage.Log
	snapshots   *storage.Snapshots
	applied     appliedIndex
	ring        *ring
	metrics     *metrics
	logger      *slog.Logger
	fail        func(error)
	failed      <-chan struct{} // closed after fail: nothing is applied any more
	ready       <-chan struct{} // closed when what was in the log at the start is applied or gone
	history     *history
	faults      *faults
	told        func() // is called after entries that may concern the cluster's members
	// confirm asks voters for their state at an index and returns an error if a majority of them had another digest there or,
	// for this node's own state, not the same.
	confirm func(ctx context.Context, atMost time.Duration, voters []raft.Server, index uint64, digest dems.Digest, own bool) error

	mu      sync.RWMutex // held for writing while an entry is applied
	machine *fsm.Machine

	// applying is full while the state may count records that the city logs were not given yet. It is taken before mu.
	applying chan struct{}

	configurationMu sync.Mutex
	configuration   configuration // the last that was applied
	logged          configuration // the last in the log at the start, perhaps never committed
}

// configuration is the cluster's members as of an index.
type configuration struct {
	index   uint64
	servers []raft.Server
}

// response is what a proposal's future carries.
type response struct {
	ballot  ballot
	term    uint64
	refused string // registrations only
}

// CityLog implements citylog.State.
func (s *stateMachine) CityLog(city dems.City) (records uint64, chain dems.Digest) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.machine.CityLog(city)
}

// view calls look with the state, which does not change meanwhile and must not be kept.
func (s *stateMachine) view(look func(*fsm.Machine)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	look(s.machine)
}

func (s *stateMachine) hasFailed() bool { return isClosed(s.failed) }

// Apply implements raft.FSM.
func (s *stateMachine) Apply(entry *raft.Log) any { return s.ApplyBatch([]*raft.Log{entry})[0] }

// ApplyBatch implements raft.BatchingFSM. The lock is held for one entry at a time, so that reads wait for one only.
func (s *stateMachine) ApplyBatch(entries []*raft.Log) []any {
	s.applying <- struct{}{}
	defer func() { <-s.applying }()
	responses := make([]any, len(entries))
	ballots := make([]ballot, 0, len(entries))
	var records []fsm.Record
	for i, entry := range entries {
		if s.hasFailed() {
			responses[i] = errFailed
			continue
		}
		applied, err := s.applyOne(entry)
		if err != nil {
			responses[i] = errFailed
			continue
		}
		b := s.ballot(entry, &applied)
		responses[i] = &response{ballot: b, term: entry.Term, refused: applied.Refused}
		ballots = append(ballots, b)
		records = append(records, applied.Records...)
		s.tell(entry, &applied)
	}
	if len(ballots) > 0 && !s.hasFailed() {
		s.ring.publish(ballots)
		s.applied.advance(ballots[len(ballots)-1].vote.Index)
		s.logs.Append(records)
	}
	return responses
}

// tell tells the replica manager of what concerns the cluster's members.
func (s *stateMachine) tell(entry *raft.Log, applied *fsm.Applied) {
	for i := range applied.Incidents {
		s.metrics.incidents.WithLabelValues(applied.Incidents[i].Kind.String()).Inc()
	}
	if entry.Type == raft.LogConfiguration || applied.Kind != dems.BatchEntry {
		s.told()
	}
}

// applyOne applies an entry. The state is undefined after an error, so the node has failed before the lock is released:
// who reads and then looks whether the node has failed gives no answer from that state.
func (s *stateMachine) applyOne(entry *raft.Log) (fsm.Applied, error) {
	start := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var applied fsm.Applied
	var err error
	if entry.Type == raft.LogConfiguration {
		servers := raft.DecodeConfiguration(entry.Data).Servers
		applied, err = s.machine.ApplyConfiguration(entry.Index, members(servers))
		s.setConfiguration(entry.Index, servers)
	} else {
		applied, err = s.machine.Apply(entry.Index, entry.Data)
	}
	s.metrics.apply.Observe(time.Since(start).Seconds())
	if err != nil {
		s.fail(fmt.Errorf("apply log entry: %w: this node is damaged, or runs another version than its peers", err))
	}
	return applied, err
}

// ballot makes this node's vote for an entry. A front end's registration is voted on as batch 0 of its session, everything
// else but batches as batch 0 of session 0.
func (s *stateMachine) ballot(entry *raft.Log, applied *fsm.Applied) ballot {
	b := ballot{results: applied.Results, vote: dems.Vote{
		Node: s.id, Incarnation: s.incarnation, Index: entry.Index, Session: applied.Session, Batch: applied.Batch,
		Results: applied.ResultDigest, State: applied.StateDigest,
	}}
	s.history.add(entry.Index, applied.StateDigest)
	if applied.Kind == dems.BatchEntry {
		s.faults.spoil(applied.Commands, &b)
	}
	if applied.Kind == dems.RegisterFrontEndEntry {
		if decoded, err := dems.DecodeEntry(entry.Data); err == nil {
			b.vote.Session = decoded.Registration.Session
		}
	}
	return b
}

// Snapshot implements raft.FSM.
func (s *stateMachine) Snapshot() (raft.FSMSnapshot, error) { return s.take(context.Background()) }

// take takes a snapshot of a state all of whose records the city logs were given. It waits for entries that are being applied.
func (s *stateMachine) take(ctx context.Context) (*snapshot, error) {
	select {
	case s.applying <- struct{}{}:
		defer func() { <-s.applying }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hasFailed() {
		return nil, errFailed
	}
	return &snapshot{s.machine.Snapshot(), s}, nil
}

// Restore implements raft.FSM for a snapshot that the leader sent. One that cannot be used, or that a majority of the
// voters contradicts, is deleted: it is the newest, and the next start would fail on it or spread what is wrong.
func (s *stateMachine) Restore(reader io.ReadCloser) error {
	source, ok := reader.(raft.ReadCloserWrapper)
	if !ok {
		return errors.New("the snapshot does not say which it is")
	}
	received, ok := source.WrappedReadCloser().(*storage.SnapshotReader)
	if !ok {
		return errors.New("the snapshot does not say which it is")
	}
	machine, err := fsm.Restore(reader, s.cities)
	if err == nil && machine.Index() < s.applied.get() {
		err = fmt.Errorf("the snapshot ends at index %d, but %d is applied here", machine.Index(), s.applied.get())
	}
	if err == nil {
		err = s.confirm(context.Background(), installTimeout, received.Meta.Configuration.Servers, machine.Index(), machine.Digest(), false)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("snapshot from the leader: %w", err), s.snapshots.Remove(received.Meta.ID))
	}
	contradicts, err := s.log.Contradicts(received.Meta)
	if contradicts {
		err = errStaleLog
	}
	if err != nil {
		s.fail(err)
		return err
	}
	s.applying <- struct{}{}
	defer func() { <-s.applying }()
	s.mu.Lock()
	s.machine = machine
	s.mu.Unlock()
	s.setConfiguration(received.Meta.ConfigurationIndex, received.Meta.Configuration.Servers)
	s.history.restored(machine.Index(), machine.Digest())
	s.applied.advance(machine.Index())
	s.logs.Restored(machine)
	s.logger.Info("installed a snapshot from the leader", "index", machine.Index(), "digest", machine.Digest())
	s.told()
	return nil
}

func (s *stateMachine) setConfiguration(index uint64, servers []raft.Server) {
	s.configurationMu.Lock()
	defer s.configurationMu.Unlock()
	s.configuration = configuration{index, servers}
}

// isVoter tells whether this incarnation has a vote in the newest configuration that this node knows.
func (s *stateMachine) isVoter() bool {
	own := serverID(s.id, s.incarnation)
	return slices.ContainsFunc(s.getConfiguration().servers, func(server raft.Server) bool {
		return server.ID == own && server.Suffrage == raft.Voter
	})
}

// appliedConfiguration returns the index of the newest applied configuration.
func (s *stateMachine) appliedConfiguration() uint64 {
	s.configurationMu.Lock()
	defer s.configurationMu.Unlock()
	return s.configuration.index
}

// remember notes a configuration that is in the log but not applied.
func (s *stateMachine) remember(index uint64, servers []raft.Server) {
	s.configurationMu.Lock()
	defer s.configurationMu.Unlock()
	s.logged = configuration{index, servers}
}

// getConfiguration returns the newest configuration that this node knows. While it replays its log, that is the last one
// in it and not one of long ago.
func (s *stateMachine) getConfiguration() configuration {
	s.configurationMu.Lock()
	defer s.configurationMu.Unlock()
	if s.configuration.index == 0 || s.logged.index > s.configuration.index && !isClosed(s.ready) {
		return s.logged
	}
	return s.configuration
}

// snapshot is the state at one index. It implements raft.FSMSnapshot.
type snapshot struct {
	*fsm.Snapshot
	of *stateMachine
}

// persistTimeout bounds how long a snapshot waits for the city logs to be durable.
const persistTimeout = time.Minute

// Persist implements raft.FSMSnapshot. The records that the state counts are durable before the snapshot is: Raft will
// not replay them again. A state that is not what its digest says, or not what a majority of the voters had, is kept from
// spreading: the snapshot is refused, and the node goes on until its peers have judged it.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	ctx, cancel := context.WithTimeout(context.Background(), persistTimeout)
	defer cancel()
	if err := s.check(ctx); err != nil {
		return err
	}
	if err := s.of.confirm(ctx, takeTimeout, s.of.getConfiguration().servers, s.Index(), s.Digest(), true); err != nil {
		return err
	}
	if _, err := s.WriteTo(sink); err != nil {
		return err
	}
	return sink.Close()
}

// check makes the records that the state counts durable, and makes sure that the state is what its digest says.
func (s *snapshot) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, persistTimeout)
	defer cancel()
	if err := s.of.logs.Sync(ctx, s); err != nil {
		return err
	}
	if again := s.Recompute(); again != s.Digest() {
		return fmt.Errorf("the state at index %d has digest %s, but its records give %s", s.Index(), s.Digest(), again)
	}
	return nil
}

// Release implements raft.FSMSnapshot.
func (s *snapshot) Release() {}
