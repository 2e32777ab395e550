package node

import (
	"context"
	"time"
)

// wake tells one goroutine that there is something to look at. It holds one token.
type wake chan struct{}

func (w wake) signal() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// wait waits until it is told, for at most a time, or until ctx ends.
func (w wake) wait(ctx context.Context, atMost time.Duration) {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-w:
	case <-timer.C:
	}
}

// wait waits; false when ctx has ended.
func wait(ctx context.Context, duration time.Duration) bool {
	wake(nil).wait(ctx, duration)
	return ctx.Err() == nil
}
