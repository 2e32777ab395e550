// Package faultnet is a packet network in memory, for tests of what runs over UDP: packets can be lost, delayed and
// reordered, and links cut, in one direction or both, while it runs. It knows nothing of what the packets mean.
//
// It owns one goroutine per Network, which delivers delayed packets; Close ends it and waits. It works inside a
// testing/synctest bubble, where delays and deadlines cost no real time. (A bubble's clock begins in the year 2000:
// certificates that are used in it have to be made in it.)
package faultnet

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// queuePackets is how many packets wait for one reader; as with UDP, more are dropped.
	queuePackets = 2048
	// maxDelayed is how many packets are on their way at once; more are dropped.
	maxDelayed = 1 << 16
	// maxPacketBytes is the largest packet, in bytes.
	maxPacketBytes = 65535
)

// Link says what happens to packets from one address to another. The zero Link delivers all at once.
type Link struct {
	Loss   float64       // the share of packets that are lost, 0 to 1
	Delay  time.Duration // how long a packet takes
	Jitter time.Duration // up to how much longer, so that packets overtake each other
	Cut    bool          // nothing arrives
}

// Network connects the sockets that were opened with Listen. It is safe for concurrent use. Which packets are lost and how
// long they take is drawn from the seed, in the order in which packets are sent: two runs are alike as far as the
// scheduling of goroutines is.
type Network struct {
	wake    chan struct{} // holds one token when the first delayed packet changed
	closing chan struct{}
	done    chan struct{}

	mutex    sync.Mutex
	random   *rand.Rand
	closed   bool
	sockets  map[string]*Conn
	standard Link
	links    map[route]Link
	groups   map[string]int // group of each address that a partition names, from 1
	delayed  delayQueue
	sent     uint64
	dropped  uint64
}

type route struct{ from, to string }

// New returns a network without faults and starts its goroutine.
func New(seed uint64) *Network {
	n := &Network{
		wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
		random:  rand.New(rand.NewPCG(seed, 0)),
		sockets: make(map[string]*Conn), links: make(map[route]Link),
	}
	go n.deliver()
	return n
}

// Listen opens a socket with an address that is free, for example n1:7000. A *Conn that was closed leaves its address free.
func (n *Network) Listen(address string) (net.PacketConn, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.closed {
		return nil, net.ErrClosed
	}
	if n.sockets[address] != nil {
		return nil, fmt.Errorf("faultnet: address %s is in use", address)
	}
	socket := newConn(n, Addr(address))
	n.sockets[address] = socket
	return socket, nil
}

// SetLink sets what happens to packets from one address to another.
func (n *Network) SetLink(from, to string, link Link) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.links[route{from, to}] = link
}

// SetAll sets what happens to packets on every link for which SetLink sets nothing else.
func (n *Network) SetAll(link Link) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.standard = link
}

// Partition cuts every link between addresses of different groups, in both directions, beside whatever else is set. It
// replaces an earlier partition. Addresses in no group reach everybody.
func (n *Network) Partition(groups ...[]string) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.groups = make(map[string]int)
	for i, group := range groups {
		for _, address := range group {
			n.groups[address] = i + 1
		}
	}
}

// Heal removes every fault: the partition and what SetLink and SetAll set. Packets on their way stay on their way.
func (n *Network) Heal() {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.groups, n.standard = nil, Link{}
	clear(n.links)
}

// Counts returns how many packets were sent, and how many of them were dropped: lost, cut off, without a receiver, or by a
// full queue.
func (n *Network) Counts() (sent, dropped uint64) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return n.sent, n.dropped
}

// Close closes every socket and waits for the network's goroutine.
func (n *Network) Close() error {
	n.mutex.Lock()
	if !n.closed {
		n.closed = true
		close(n.closing)
	}
	sockets := n.sockets
	n.sockets = nil
	n.mutex.Unlock()
	for _, socket := range sockets {
		socket.Close()
	}
	<-n.done
	return nil
}

// send takes a packet from a socket. The data is copied.
func (n *Network) send(from Addr, to string, data []byte) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.sent++
	link, ok := n.links[route{string(from), to}]
	if !ok {
		link = n.standard
	}
	sender, receiver := n.groups[string(from)], n.groups[to]
	apart := sender != 0 && receiver != 0 && sender != receiver
	if n.closed || link.Cut || apart || link.Loss > 0 && n.random.Float64() < link.Loss {
		n.dropped++
		return
	}
	arriving := packet{from: from, data: slices.Clone(data)}
	delay := link.Delay
	if link.Jitter > 0 {
		delay += time.Duration(n.random.Int64N(int64(link.Jitter)))
	}
	if delay <= 0 {
		n.arrive(to, arriving)
		return
	}
	if len(n.delayed) >= maxDelayed {
		n.dropped++
		return
	}
	heap.Push(&n.delayed, delayedPacket{packet: arriving, to: to, at: time.Now().Add(delay), order: n.sent})
	if n.delayed[0].order == n.sent {
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

// arrive puts a packet into its receiver's queue. The mutex is held.
func (n *Network) arrive(to string, arriving packet) {
	socket := n.sockets[to]
	if socket == nil || !socket.put(arriving) {
		n.dropped++
	}
}

// deliver hands delayed packets over when their time has come.
func (n *Network) deliver() {
	defer close(n.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		n.mutex.Lock()
		now := time.Now()
		for len(n.delayed) > 0 && !n.delayed[0].at.After(now) {
			due := heap.Pop(&n.delayed).(delayedPacket)
			n.arrive(due.to, due.packet)
		}
		wait := time.Hour
		if len(n.delayed) > 0 {
			wait = n.delayed[0].at.Sub(now)
		}
		n.mutex.Unlock()
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-n.wake:
		case <-n.closing:
			return
		}
	}
}

type packet struct {
	from Addr
	data []byte
}

// delayedPacket is a packet on its way.
type delayedPacket struct {
	packet
	to    string
	at    time.Time
	order uint64 // among packets for the same time the first sent arrives first
}

// delayQueue implements heap.Interface: the packet that arrives next is at the front.
type delayQueue []delayedPacket

func (q delayQueue) Len() int { return len(q) }

func (q delayQueue) Less(i, j int) bool {
	if q[i].at.Equal(q[j].at) {
		return q[i].order < q[j].order
	}
	return q[i].at.Before(q[j].at)
}

func (q delayQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

func (q *delayQueue) Push(value any) { *q = append(*q, value.(delayedPacket)) }

func (q *delayQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
