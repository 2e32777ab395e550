package node

import (
	"container/heap"
	"context"
	"sync"
)

// appliedIndex is the index of the last applied entry, which can be waited for. Only entries that the state machine sees
// count: no barriers, configurations or empty entries of new leaders.
type appliedIndex struct {
	mu      sync.Mutex
	index   uint64
	waiters waiters
}

type waiter struct {
	index uint64
	ready chan struct{} // closed when the index is applied
	place int           // in the heap
}

// advance sets the index and wakes who waits for it. It never goes back.
func (a *appliedIndex) advance(index uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index = max(a.index, index)
	for len(a.waiters) > 0 && a.waiters[0].index <= a.index {
		close(heap.Pop(&a.waiters).(*waiter).ready)
	}
}

// get returns the index.
func (a *appliedIndex) get() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.index
}

// wait waits until an index is applied, or ctx ends.
func (a *appliedIndex) wait(ctx context.Context, index uint64) error {
	a.mu.Lock()
	if index <= a.index {
		a.mu.Unlock()
		return nil
	}
	w := &waiter{index: index, ready: make(chan struct{})}
	heap.Push(&a.waiters, w)
	a.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	default:
		heap.Remove(&a.waiters, w.place)
		return ctx.Err()
	}
}

// waiters is a heap by index.
type waiters []*waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].index < w[j].index }
func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].place, w[j].place = i, j
}

func (w *waiters) Push(added any) {
	added.(*waiter).place = len(*w)
	*w = append(*w, added.(*waiter))
}

func (w *waiters) Pop() any {
	last := (*w)[len(*w)-1]
	*w = (*w)[:len(*w)-1]
	return last
}
