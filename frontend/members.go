package frontend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dems"
	"dems/frontend/voting"
)

const (
	// pollInterval is how often a node is asked for its status while nothing is wrong. What changes fast (who leads)
	// is asked for at once when a request needs it.
	pollInterval = time.Second
	// pollTimeout bounds one such question.
	pollTimeout = 500 * time.Millisecond
	// pollPause is the least time between two of them, however many requests are worried: short, for the first write after
	// a leader's death waits for it.
	pollPause = 5 * time.Millisecond
	// haste is how long nodes are asked one time after the other when somebody has lost the leader.
	haste = 250 * time.Millisecond
)

// node is one node as this front end knows it.
type node struct {
	address string
	replica Replica
	kick    chan struct{} // asks for a poll now; holds at most one
	id      atomic.Pointer[dems.NodeID]
	proven  atomic.Bool // a majority has applied what it proposed, and it has not failed since

	// Guarded by members.mu.
	status dems.NodeStatus
	polled bool      // it has answered, or failed to, at least once
	err    error     // why the last poll failed; nil once it answered
	failed time.Time // when it last failed to lead; zero: never
}

// name returns the node's ID: "" until it answered or a configuration named its address. Once known it stays.
func (n *node) name() dems.NodeID {
	if id := n.id.Load(); id != nil {
		return *id
	}
	return ""
}

// speaks tells whether what came from the node's address is the node's own word. IDs are proven by certificates, so this
// keeps a node that answers at two addresses from having two votes.
func (n *node) speaks(id dems.NodeID) bool { return id == n.name() }

// view is an immutable picture of the cluster. A new one replaces it at every change.
type view struct {
	nodes         []*node       // every node known
	voters        []*node       // whose answers count; empty while no majority has said who they are
	electors      voting.Voters // the same, with the incarnations that the configuration names
	members       []dems.Member // the configuration that names the voters
	configuration uint64        // its index
	leader        *node         // nil while unknown
	term          uint64
	replaced      chan struct{} // closed when another view replaces this one
}

// majority returns how many equal answers decide.
func (v *view) majority() int { return len(v.voters)/2 + 1 }

// distinct returns the nodes without those that another one, at another address, turned out to be.
func (v *view) distinct() []*node {
	return slices.DeleteFunc(slices.Clone(v.nodes), func(n *node) bool { return n.name() != "" && v.find(n.name()) != n })
}

// electorate returns those whose word about the cluster counts: the voters or, before they are known, every node.
func (v *view) electorate() []*node {
	if len(v.voters) > 0 {
		return v.voters
	}
	return v.distinct()
}

// present tells whether what a node last said of the cluster is the word of its present life. Callers hold members.mu.
func (v *view) present(n *node) bool {
	return n.err == nil && (len(v.electors) == 0 || v.electors.Counts(n.name(), n.status.Incarnation))
}

// named returns the nodes with those IDs.
func (v *view) named(ids []dems.NodeID) []*node {
	nodes := make([]*node, 0, len(ids))
	for _, id := range ids {
		if n := v.find(id); n != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// hears tells whether what came from a node's address is the word of a voter, in its present life.
func (v *view) hears(n *node, id dems.NodeID, incarnation uint64) bool {
	return n.speaks(id) && v.electors.Counts(id, incarnation)
}

// find returns the node with an ID, or nil.
func (v *view) find(id dems.NodeID) *node {
	for _, n := range v.nodes {
		if id != "" && n.name() == id {
			return n
		}
	}
	return nil
}

// members watches the nodes: who they are, who votes, who leads. Nothing it believes rests on one node's word: the
// configuration is the newest that a majority of the previous one reports, and a wrong belief about the leader costs a
// detour, never a wrong answer.
type members struct {
	dial    func(address string) Replica
	logger  *slog.Logger
	group   sync.WaitGroup // one poller per node
	current atomic.Pointer[view]
	hurried atomic.Pointer[time.Time] // until when nodes are polled without a pause; nil: they are not

	mu  sync.Mutex      // held while current is replaced
	ctx context.Context // pollers live as long as it; nil before run and after
}

func newMembers(addresses []string, dial func(string) Replica, logger *slog.Logger) *members {
	m := &members{dial: dial, logger: logger}
	first := &view{replaced: make(chan struct{})}
	for _, address := range addresses {
		first.nodes = append(first.nodes, m.newNode(address))
	}
	m.current.Store(first)
	return m
}

func (m *members) newNode(address string) *node {
	return &node{address: address, replica: m.dial(address), kick: make(chan struct{}, 1), err: errors.New("has not answered yet")}
}

// run polls every node until the context ends, then closes the connections.
func (m *members) run(ctx context.Context) error {
	m.mu.Lock()
	m.ctx = ctx
	for _, n := range m.view().nodes {
		m.group.Go(func() { m.poll(ctx, n) })
	}
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.ctx = nil // no poller starts any more
	m.mu.Unlock()
	m.group.Wait()
	for _, n := range m.view().nodes {
		if closer, ok := n.replica.(io.Closer); ok {
			if err := closer.Close(); err != nil {
				m.logger.Debug("close connection", "node", n.address, "error", err)
			}
		}
	}
	return nil
}

func (m *members) poll(ctx context.Context, n *node) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		pollCtx, cancel := context.WithTimeout(ctx, pollTimeout)
		status, err := n.replica.Status(pollCtx)
		cancel()
		if ctx.Err() != nil {
			return
		}
		m.update(n, status, err)
		if !pause(ctx, nil, pollPause) {
			return
		}
		if until := m.hurried.Load(); until != nil && time.Now().Before(*until) {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-n.kick:
		case <-ticker.C:
		}
	}
}

// hurry has every node polled fast until another leader is known, or for a while.
func (m *members) hurry() {
	until := time.Now().Add(haste)
	m.hurried.Store(&until)
	m.refresh()
}

// refresh asks every node for its status soon. It does not wait; watch tells when something changed.
func (m *members) refresh() {
	for _, n := range m.view().nodes {
		select {
		case n.kick <- struct{}{}:
		default:
		}
	}
}

// view returns the current picture.
func (m *members) view() *view { return m.current.Load() }

// watch returns the current picture and a channel that is closed when another one replaces it.
func (m *members) watch() (*view, <-chan struct{}) {
	v := m.current.Load()
	return v, v.replaced
}

// update takes in a node's answer to a poll.
func (m *members) update(n *node, status dems.NodeStatus, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && n.id.Load() == nil {
		n.id.Store(&status.ID)
	}
	if err == nil && !n.speaks(status.ID) {
		err = fmt.Errorf("%s answers at the address of %s", status.ID, n.name())
	}
	if (err == nil) != (n.err == nil) {
		m.logger.Info("node reachability changed", "node", n.address, "reachable", err == nil, "error", err)
	}
	n.polled, n.err = true, err
	if err == nil {
		n.status = status
	}
	m.reconsider()
}

// hint takes in that a node named another leader when it refused a request.
func (m *members) hint(n *node, leader dems.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n.status.Leader != leader {
		n.status.Leader = leader
		m.reconsider()
	}
}

// fail takes in that a node did not do what a leader does.
func (m *members) fail(n *node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n.failed = time.Now()
	n.proven.Store(false)
	m.reconsider()
}

// reconsider forms a new view from what the nodes said. Callers hold mu.
func (m *members) reconsider() {
	current := m.view()
	next := &view{
		nodes: current.nodes, voters: current.voters, electors: current.electors, members: current.members,
		configuration: current.configuration,
	}
	m.adoptConfiguration(next)
	next.leader, next.term = electLeader(next, time.Now())
	if next.leader == current.leader && next.term == current.term && next.configuration == current.configuration &&
		len(next.members) == len(current.members) {
		return
	}
	if next.leader != current.leader && next.leader != nil {
		m.hurried.Store(nil)
		m.logger.Info("leader changed", "leader", next.leader.name(), "term", next.term)
	}
	next.replaced = make(chan struct{})
	m.current.Store(next)
	close(current.replaced)
}

// adoptConfiguration gives next the newest configuration that a majority reports: of the voters so far or, before there
// are any, of the nodes that the front end was started with. Majorities of successive configurations overlap, since
// Raft changes them by one server at a time.
func (m *members) adoptConfiguration(next *view) {
	electorate := next.electorate()
	for _, n := range electorate {
		if !reports(next, n) {
			continue
		}
		status, reporting := &n.status, 0
		for _, other := range electorate {
			if reports(next, other) && other.status.Configuration == status.Configuration &&
				slices.Equal(other.status.Members, status.Members) {
				reporting++
			}
		}
		if reporting > len(electorate)/2 {
			next.configuration, next.members = status.Configuration, status.Members
			next.voters, next.electors = m.voters(next)
			m.logger.Info("configuration", "index", status.Configuration, "voters", len(next.voters))
			return
		}
	}
}

// reports tells whether a node reports a configuration that is newer than the view's. In whichever life: who has missed that
// most of the voters were replaced would never learn of it from the lives that it knows. Callers hold members.mu.
func reports(v *view, n *node) bool {
	return n.err == nil && len(n.status.Members) > 0 && (len(v.members) == 0 || n.status.Configuration > v.configuration)
}

// voters returns the nodes that a view's configuration names as voters, connecting to members not known yet. Callers hold
// mu.
func (m *members) voters(next *view) (voters []*node, electors voting.Voters) {
	for _, member := range next.members {
		n := next.find(member.ID)
		if n == nil {
			at := slices.IndexFunc(next.nodes, func(n *node) bool { return n.id.Load() == nil && n.address == member.Address })
			if at >= 0 {
				n = next.nodes[at]
			} else {
				n = m.newNode(member.Address)
				next.nodes = append(slices.Clone(next.nodes), n)
				if ctx := m.ctx; ctx != nil {
					m.group.Go(func() { m.poll(ctx, n) })
				}
			}
			n.id.Store(&member.ID)
		}
		if member.Suffrage == dems.Voter {
			voters = append(voters, n)
			electors = append(electors, voting.Voter{Node: member.ID, Incarnation: member.Incarnation})
		}
	}
	return voters, electors
}

// standing returns where a node stands with the cluster by the word of a majority of those whose word counts; Correct where
// they do not agree that it is not.
func (m *members) standing(id dems.NodeID) dems.Condition {
	m.mu.Lock()
	defer m.mu.Unlock()
	electorate := m.view().electorate()
	saying := map[dems.Standing]int{}
	for _, n := range electorate {
		for _, standing := range n.status.Standings {
			if standing.Since = 0; standing.Node == id && m.view().present(n) {
				if saying[standing]++; saying[standing] > len(electorate)/2 {
					return standing.Condition
				}
				break // whatever else it says of the same node
			}
		}
	}
	return dems.Correct
}

// detour returns a voter that follows the leader of a view and can be asked to hand something on to it, another one for each number; nil
// where the leader answers itself, or none of those does.
func (m *members) detour(v *view, number uint64) *node {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v.leader == nil || v.leader.err == nil || !v.leader.polled {
		return nil
	}
	ways := make([]*node, 0, len(v.voters))
	for _, n := range v.voters {
		if n != v.leader && v.present(n) && n.status.Leader == v.leader.name() {
			ways = append(ways, n)
		}
	}
	if len(ways) == 0 {
		return nil
	}
	return ways[number%uint64(len(ways))]
}

// statusOf returns what the node last said, and why the last poll failed.
func (m *members) statusOf(n *node) (dems.NodeStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	status := n.status
	status.ID = n.name()
	return status, n.err
}
