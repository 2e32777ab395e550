package frontend

import (
	"context"
	"sync"
)

// errands runs what no request waits for, each on a goroutine of its own and so many at once at the most. What it starts ends
// with run's context, and run waits for all of it.
type errands struct {
	places chan struct{}

	mu    sync.Mutex
	ctx   context.Context // nil before run and after
	group sync.WaitGroup
}

func newErrands(limit int) *errands { return &errands{places: make(chan struct{}, limit)} }

// run lets errands start until the context ends.
func (e *errands) run(ctx context.Context) error {
	e.mu.Lock()
	e.ctx = ctx
	e.mu.Unlock()
	<-ctx.Done()
	e.mu.Lock()
	e.ctx = nil // nothing starts any more
	e.mu.Unlock()
	e.group.Wait()
	return nil
}

// start runs an errand; false, and it is left undone, where too many are on their way or nothing runs.
func (e *errands) start(errand func(ctx context.Context)) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx == nil {
		return false
	}
	select {
	case e.places <- struct{}{}:
	default:
		return false
	}
	ctx := e.ctx
	e.group.Go(func() {
		defer func() { <-e.places }()
		errand(ctx)
	})
	return true
}
