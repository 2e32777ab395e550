package traffic

import (
	"sync/atomic"
	"time"

	"dems"
)

// Counts is how operations fared so far, each counted once with all its attempts.
type Counts struct {
	Tried        uint64
	Acknowledged uint64 // done
	Refused      uint64 // by the rules, which is an answer too
	Failed       uint64 // certainly not applied
	Unknown      uint64 // may have been applied, at the moment; those that are asked for again become known
	// LastWrite and LastRead are when a write and a read were last answered; zero before the first.
	LastWrite, LastRead time.Time
}

// counts is what Counts is made of.
type counts struct {
	tried, acknowledged, refused, failed, unknown atomic.Int64
	lastWrite, lastRead                           atomic.Pointer[time.Time]
}

func (c *counts) read() Counts {
	counts := Counts{
		Tried: uint64(c.tried.Load()), Acknowledged: uint64(c.acknowledged.Load()), Refused: uint64(c.refused.Load()),
		Failed: uint64(c.failed.Load()), Unknown: uint64(c.unknown.Load()),
	}
	if last := c.lastWrite.Load(); last != nil {
		counts.LastWrite = *last
	}
	if last := c.lastRead.Load(); last != nil {
		counts.LastRead = *last
	}
	return counts
}

// count counts how an operation is known after an attempt, and how it was known before.
func (c *counts) count(t *task, before verdict) {
	if before == lost && t.verdict != lost {
		c.unknown.Add(-1)
	}
	switch {
	case t.verdict == lost && before != lost:
		c.unknown.Add(1)
	case t.verdict == failed:
		c.failed.Add(1)
	case t.verdict == answered && t.result.Code == dems.OK:
		c.acknowledged.Add(1)
	case t.verdict == answered:
		c.refused.Add(1)
	}
	if t.verdict == answered {
		now := time.Now()
		last := &c.lastRead
		if t.command.Op.Mutates() {
			last = &c.lastWrite
		}
		last.Store(&now)
	}
}
