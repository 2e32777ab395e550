// Package faulty gives a server's socket a network that can be cut and slowed while it runs, for drills: datagrams to and from
// others are lost or late as if the cable, or what is behind it, were to blame. It needs no privileges, and it knows nothing
// of what datagrams mean.
//
// It owns no socket: whoever opened it closes it. Each Network has one goroutine that sends what is late, and one for each
// fault from its injection to its end; Close ends and waits for them. While no fault is in force, a datagram costs one atomic
// load more than without this package.
package faulty

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dems"
)

const (
	// Grace is how long after its injection a fault begins: what answers the injection still gets through.
	Grace = 50 * time.Millisecond
	// lookupInterval is how often the peers' addresses are looked up while a fault lasts: a container that is made again
	// has another one.
	lookupInterval = time.Second
	// lookupTimeout bounds looking up one node's addresses.
	lookupTimeout = time.Second
)

// errClosed is what Inject returns after Close.
var errClosed = errors.New("the socket is closed")

// Lookup returns every address that a node may send from.
type Lookup func(ctx context.Context, node dems.NodeID) ([]net.Addr, error)

// Network is what is between one socket and everybody else. It is safe for concurrent use.
type Network struct {
	socket net.PacketConn
	nodes  []dems.NodeID
	lookup Lookup
	logger *slog.Logger
	rules  atomic.Pointer[rules] // nil: no fault is in force
	late   *outbox
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	running sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	addresses map[dems.NodeID][]string      // of each node, as they were last found
	faults    map[dems.FaultKind]*injection // at most one partition and one latency
}

// injection is a fault that will be, or is, in force.
type injection struct {
	fault   dems.Fault
	inForce bool
	end     context.CancelFunc
}

// New returns the network of a socket; it has no fault. Nodes are all nodes of the cluster: whoever sends from none of their
// addresses counts as a front end. A lookup that fails leaves a node where it was.
func New(socket net.PacketConn, nodes []dems.NodeID, lookup Lookup, logger *slog.Logger) *Network {
	n := &Network{
		socket: socket, nodes: slices.Clone(nodes), lookup: lookup, logger: logger,
		addresses: make(map[dems.NodeID][]string), faults: make(map[dems.FaultKind]*injection),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.late = newOutbox(n.transmit)
	n.running.Go(func() { n.late.run(n.ctx) })
	return n
}

// Inject starts a partition or a latency, in place of one of the same kind. It returns once the peers' addresses were looked
// up, and the fault begins a Grace later.
func (n *Network) Inject(ctx context.Context, fault dems.Fault) error {
	if problem := fault.Check(); problem != "" {
		return errors.New(problem)
	}
	if fault.Kind != dems.Partition && fault.Kind != dems.Latency {
		return errors.New("this is no fault of the network: " + fault.Kind.String())
	}
	fault.Peers = slices.Clone(fault.Peers)
	n.find(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return errClosed
	}
	if earlier := n.faults[fault.Kind]; earlier != nil {
		earlier.end()
	}
	injected := &injection{fault: fault}
	var life context.Context
	life, injected.end = context.WithCancel(n.ctx)
	n.faults[fault.Kind] = injected
	n.apply()
	n.running.Go(func() { n.keep(life, injected) })
	return nil
}

// Heal ends all faults. What is late already still arrives late.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, injected := range n.faults {
		injected.end()
	}
	clear(n.faults)
	n.apply()
}

// Close ends all faults, sends what is late at once, for it would have arrived, and waits for every goroutine. The socket
// must still be open.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.Heal()
	n.cancel()
	n.running.Wait()
}

// keep has a fault begin, follows its peers to new addresses while it lasts, and ends it.
func (n *Network) keep(ctx context.Context, injected *injection) {
	defer injected.end()
	timer := time.NewTimer(Grace)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return
	}
	if !n.change(injected, func() { injected.inForce = true }) {
		return
	}
	if injected.fault.Lasts > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, injected.fault.Lasts)
		defer cancel()
	}
	ticker := time.NewTicker(lookupInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ticker.C:
			n.find(ctx)
		case <-ctx.Done():
		}
	}
	if n.change(injected, func() { delete(n.faults, injected.fault.Kind) }) {
		n.logger.Warn("drill: a fault of the network ended by itself", slog.Any("kind", injected.fault.Kind))
	}
}

// change changes an injection and applies that, unless the injection was ended.
func (n *Network) change(injected *injection, how func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.faults[injected.fault.Kind] != injected {
		return false
	}
	how()
	n.apply()
	return true
}

// find looks up where the nodes are. It has the faults in force know, too.
func (n *Network) find(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found := make([][]string, len(n.nodes))
	var lookups sync.WaitGroup
	for i, node := range n.nodes {
		lookups.Go(func() {
			addresses, err := n.lookup(ctx, node)
			if err != nil {
				n.logger.Debug("drill: a node has no address at present", slog.Any("node", node), slog.Any("error", err))
			}
			for _, address := range addresses {
				found[i] = append(found[i], key(address))
			}
		})
	}
	lookups.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, node := range n.nodes {
		if len(found[i]) > 0 {
			n.addresses[node] = found[i]
		}
	}
	n.apply()
}

// apply has the faults that are in force decide about datagrams from now on. The mutex is held.
func (n *Network) apply() {
	next := &rules{names: make(map[string]string)}
	for _, kind := range []dems.FaultKind{dems.Partition, dems.Latency} {
		if injected := n.faults[kind]; injected != nil && injected.inForce {
			next.faults = append(next.faults, injected.fault)
		}
	}
	if len(next.faults) == 0 {
		n.rules.Store(nil)
		return
	}
	for _, node := range slices.Sorted(maps.Keys(n.addresses)) {
		for _, address := range n.addresses[node] {
			next.names[address] = string(node)
		}
	}
	n.rules.Store(next)
}

// rules are what the faults in force make of datagrams. They never change.
type rules struct {
	names  map[string]string // the node at an address, by key
	faults []dems.Fault
}

// fate tells what becomes of a datagram in a direction, to or from an address.
func (r *rules) fate(direction dems.Direction, address net.Addr) (lost bool, delay time.Duration) {
	name, ok := r.names[key(address)]
	if !ok {
		name = dems.FrontEnds
	}
	for i := range r.faults {
		fault := &r.faults[i]
		switch {
		case fault.Direction != dems.BothWays && fault.Direction != direction,
			len(fault.Peers) > 0 && !slices.Contains(fault.Peers, name):
		case fault.Kind == dems.Partition:
			return true, 0
		default:
			delay = fault.Delay + time.Duration(rand.Int64N(int64(fault.Jitter)+1))
		}
	}
	return false, delay
}

// key tells addresses apart: an IPv4 address has the same one however it is written.
func key(address net.Addr) string {
	if udp, ok := address.(*net.UDPAddr); ok {
		ip := udp.AddrPort().Addr().Unmap().WithZone("")
		return netip.AddrPortFrom(ip, udp.AddrPort().Port()).String()
	}
	return address.String()
}
