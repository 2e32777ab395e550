package frontend

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
)

const (
	// pollInterval is how often a node is asked for its status while nothing is wrong. What changes fast (who leads)
	// is asked for at once when a request needs it.
	pollInterval = time.Second
	// pollTimeout bounds one such question.
	pollTimeout = 500 * time.Millisecond
	// pollPause is the least time between two of them, however many requests are worried.
	pollPause = 20 * time.Millisecond
)

// node is one node as this front end knows it. Its ID is proven by the node's certificate.
type node struct {
	address string
	replica Replica
	kick    chan struct{} // asks for a poll now; holds at most one

	// Guarded by members.mu.
	id     dems.NodeID // "" until it answered or a configuration named its address
	status dems.NodeStatus
	err    error // why the last poll failed; nil once it answered
}

// view is an immutable picture of the cluster. A new one replaces it at every change.
type view struct {
	nodes         []*node // every node known
	voters        []*node // whose answers count; empty while no majority has said who they are
	configuration uint64  // index of the configuration that names the voters
	leader        *node   // nil while unknown
	term          uint64
}

// majority returns how many equal answers decide.
func (v *view) majority() int { return len(v.voters)/2 + 1 }

func (v *view) isVoter(n *node) bool { return slices.Contains(v.voters, n) }

// members watches the nodes: who they are, who votes, who leads. Nothing it believes rests on one node's word: the
// configuration is the newest that a majority of the previous one reports, and a wrong belief about the leader costs a
// detour, never a wrong answer.
type members struct {
	dial   func(address string) Replica
	logger *slog.Logger
	group  sync.WaitGroup // one poller per node

	mu      sync.Mutex
	ctx     context.Context // pollers live as long as it; nil before run and after
	current *view
	changed chan struct{} // closed and replaced when current is replaced
}

func newMembers(addresses []string, dial func(string) Replica, logger *slog.Logger) *members {
	m := &members{dial: dial, logger: logger, current: &view{}, changed: make(chan struct{})}
	for _, address := range addresses {
		m.current.nodes = append(m.current.nodes, m.newNode(address))
	}
	return m
}

func (m *members) newNode(address string) *node {
	return &node{address: address, replica: m.dial(address), kick: make(chan struct{}, 1), err: errors.New("has not answered yet")}
}

// run polls every node until the context ends, then closes the connections.
func (m *members) run(ctx context.Context) error {
	m.mu.Lock()
	m.ctx = ctx
	for _, n := range m.current.nodes {
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
		pause := time.NewTimer(pollPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return
		case <-n.kick:
		case <-ticker.C:
		}
	}
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
func (m *members) view() *view {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current
}

// watch returns the current picture and a channel that is closed when another one replaces it.
func (m *members) watch() (*view, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current, m.changed
}

// update takes in a node's answer to a poll.
func (m *members) update(n *node, status dems.NodeStatus, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if (err == nil) != (n.err == nil) {
		m.logger.Info("node reachability changed", "node", n.address, "reachable", err == nil, "error", err)
	}
	n.err = err
	if err == nil {
		n.status, n.id = status, status.ID
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

// reconsider forms a new view from what the nodes said. Callers hold mu.
func (m *members) reconsider() {
	next := &view{nodes: m.current.nodes, voters: m.current.voters, configuration: m.current.configuration}
	m.adoptConfiguration(next)
	next.leader, next.term = electLeader(next.nodes)
	same := next.leader == m.current.leader && next.term == m.current.term &&
		next.configuration == m.current.configuration && len(next.voters) == len(m.current.voters)
	if same {
		return
	}
	if next.leader != m.current.leader && next.leader != nil {
		m.logger.Info("leader changed", "leader", next.leader.id, "term", next.term)
	}
	m.current = next
	close(m.changed)
	m.changed = make(chan struct{})
}

// electLeader returns the node that most nodes name as the leader; of two equally named, that of the higher term.
func electLeader(nodes []*node) (*node, uint64) {
	var leader *node
	var most int
	var highest uint64
	for _, candidate := range nodes {
		count, term := 0, uint64(0)
		for _, n := range nodes {
			if n.err == nil && candidate.id != "" && n.status.Leader == candidate.id {
				count++
				term = max(term, n.status.Term)
			}
		}
		if count > most || count == most && count > 0 && term > highest {
			leader, most, highest = candidate, count, term
		}
	}
	return leader, highest
}

// adoptConfiguration gives next the newest configuration that a majority reports: of the voters so far or, before there
// are any, of the nodes that the front end was started with. Majorities of successive configurations overlap, since
// Raft changes them by one server at a time.
func (m *members) adoptConfiguration(next *view) {
	electorate := next.voters
	if len(electorate) == 0 {
		electorate = next.nodes
	}
	reports := map[string]int{}
	for _, n := range electorate {
		status := &n.status
		if n.err != nil || len(status.Members) == 0 || len(next.voters) > 0 && status.Configuration <= next.configuration {
			continue
		}
		key := fmt.Sprint(status.Configuration, status.Members)
		reports[key]++
		if reports[key] == len(electorate)/2+1 {
			next.configuration = status.Configuration
			next.voters = m.voters(next, status.Members)
			m.logger.Info("configuration", "index", status.Configuration, "voters", len(next.voters))
			return
		}
	}
}

// voters returns the nodes that a configuration names as voters, connecting to those not known yet.
func (m *members) voters(next *view, configured []dems.Member) []*node {
	var voters []*node
	for _, member := range configured {
		at := slices.IndexFunc(next.nodes, func(n *node) bool {
			return n.id == member.ID || n.id == "" && n.address == member.Address
		})
		if at < 0 {
			n := m.newNode(member.Address)
			next.nodes = append(slices.Clone(next.nodes), n)
			at = len(next.nodes) - 1
			if m.ctx != nil {
				ctx := m.ctx
				m.group.Go(func() { m.poll(ctx, n) })
			}
		}
		next.nodes[at].id = member.ID
		if member.Suffrage == dems.Voter {
			voters = append(voters, next.nodes[at])
		}
	}
	return voters
}

// statusOf returns what the node last said, and why the last poll failed.
func (m *members) statusOf(n *node) (dems.NodeStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	status := n.status
	status.ID = n.id
	return status, n.err
}

// find returns the node with an ID.
func (m *members) find(id dems.NodeID) *node {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.current.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}
