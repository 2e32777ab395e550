package faulty

import (
	"container/heap"
	"context"
	"net"
	"sync"
	"time"
)

const (
	// maxLateBytes is how much is late at once in each direction, in bytes; what is more is lost, as in a router whose queue
	// is full.
	maxLateBytes = 16 << 20
	// datagramBytes is what a datagram counts beside its bytes, for what it costs to keep it.
	datagramBytes = 256
)

// datagram is one that is on its way. It has its own memory.
type datagram struct {
	at      time.Time // when it arrives
	order   uint64    // of those that arrive at the same time the first sent is the first
	address net.Addr  // where from, or where to
	data    []byte
	control []byte // what the kernel is told, or tells, with it: congestion marks, the server's own address, how to divide it
	flags   int
}

func (d *datagram) size() int { return len(d.data) + len(d.control) + datagramBytes }

// queue holds datagrams that are late, the next one first. It implements heap.Interface.
type queue struct {
	waiting []datagram
	bytes   int
	count   uint64 // of those that were ever added
}

// add adds a datagram; false: the queue is full, and the datagram is lost.
func (q *queue) add(d datagram) bool {
	if q.bytes+d.size() > maxLateBytes {
		return false
	}
	q.count++
	d.order = q.count
	q.bytes += d.size()
	heap.Push(q, d)
	return true
}

// next tells when the next datagram is due; zero if none is waiting.
func (q *queue) next() time.Time {
	if len(q.waiting) == 0 {
		return time.Time{}
	}
	return q.waiting[0].at
}

// take takes the next datagram out if it is due.
func (q *queue) take(now time.Time) (datagram, bool) {
	if len(q.waiting) == 0 || q.waiting[0].at.After(now) {
		return datagram{}, false
	}
	d := heap.Pop(q).(datagram)
	q.bytes -= d.size()
	return d, true
}

// Len implements heap.Interface.
func (q *queue) Len() int { return len(q.waiting) }

// Less implements heap.Interface.
func (q *queue) Less(i, j int) bool {
	a, b := &q.waiting[i], &q.waiting[j]
	if a.at.Equal(b.at) {
		return a.order < b.order
	}
	return a.at.Before(b.at)
}

// Swap implements heap.Interface.
func (q *queue) Swap(i, j int) { q.waiting[i], q.waiting[j] = q.waiting[j], q.waiting[i] }

// Push implements heap.Interface.
func (q *queue) Push(d any) { q.waiting = append(q.waiting, d.(datagram)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(q.waiting) - 1
	d := q.waiting[last]
	q.waiting[last] = datagram{}
	q.waiting = q.waiting[:last]
	return d
}

// outbox sends datagrams when their time has come. It is safe for concurrent use.
type outbox struct {
	send func(datagram)
	wake chan struct{} // holds a token when another datagram is the next one

	mu    sync.Mutex
	late  queue
	ended bool
}

func newOutbox(send func(datagram)) *outbox { return &outbox{send: send, wake: make(chan struct{}, 1)} }

// add takes a datagram in; false: it is lost.
func (o *outbox) add(d datagram) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended || !o.late.add(d) {
		return false
	}
	if o.late.next().Equal(d.at) {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// run sends until ctx ends, and then at once what is left.
func (o *outbox) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		for d, ok := o.take(time.Now()); ok; d, ok = o.take(time.Now()) {
			o.send(d)
		}
		o.mu.Lock()
		next := o.late.next()
		o.mu.Unlock()
		var due <-chan time.Time
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			due = timer.C
		}
		select {
		case <-due:
		case <-o.wake:
		case <-ctx.Done():
			o.flush()
			return
		}
	}
}

func (o *outbox) take(now time.Time) (datagram, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.late.take(now)
}

// flush sends what is left, whatever its time, and takes nothing in any more.
func (o *outbox) flush() {
	o.mu.Lock()
	o.ended = true
	left := o.late
	o.late = queue{}
	o.mu.Unlock()
	for left.Len() > 0 {
		o.send(heap.Pop(&left).(datagram))
	}
}
