package client

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"dems"
)

// do asks front ends until one gives a final answer or the time is over.
func (c *Client) do(ctx context.Context, r *request) (*response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	var answer *response
	err := c.try(ctx, r, func(ctx context.Context, endpoint string, others bool) (failed *failure) {
		answer, failed = c.attemptFor(ctx, endpoint, r, others && !r.once)
		return failed
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// attemptFunc asks one front end; others tells whether there are others to ask. It returns nil after a final success.
type attemptFunc func(ctx context.Context, endpoint string, others bool) *failure

// try asks front ends until one gives a final answer or the context ends. Every attempt is the same request under the same
// key, so however many of them arrive, one takes effect. A request that must arrive once is not sent again after an attempt
// that may have arrived. It returns nil after a success.
func (c *Client) try(ctx context.Context, r *request, attempt attemptFunc) *Error {
	var (
		last      *Error
		uncertain bool // whether any attempt so far may have applied the request
	)
	for round := 0; ; round++ {
		worthIt := false // whether a further round can help
		pause := c.backoff(round)
		all := c.endpoints.round()
		for _, endpoint := range all {
			if ctx.Err() != nil {
				return giveUp(ctx, r, last, uncertain)
			}
			failed := attempt(ctx, endpoint, len(all) > 1)
			if failed == nil {
				c.endpoints.answered(endpoint)
				return nil
			}
			uncertain = uncertain || failed.uncertain
			if last == nil || failed.err.Status != 0 || ctx.Err() == nil {
				last = failed.err // an attempt that only ran out of time says less than an answer before it
			}
			if failed.again == never {
				c.endpoints.answered(endpoint)
				failed.err.Key = r.key
				return failed.err
			}
			if r.once && failed.uncertain {
				return giveUp(ctx, r, last, uncertain)
			}
			worthIt = worthIt || failed.again == later
			pause = max(pause, failed.err.RetryAfter)
			c.config.Logger.LogAttrs(ctx, slog.LevelInfo, "no definite answer",
				slog.String("endpoint", endpoint), slog.String("error", failed.err.Error()))
		}
		if !worthIt || !wait(ctx, pause) {
			return giveUp(ctx, r, last, uncertain)
		}
	}
}

// attemptFor is attempt, cut short where other front ends can be asked as well.
func (c *Client) attemptFor(ctx context.Context, endpoint string, r *request, others bool) (*response, *failure) {
	if others {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.config.AttemptTimeout)
		defer cancel()
	}
	return c.attempt(ctx, endpoint, r)
}

// backoff returns the pause after a round: it doubles with each, up to a limit, and is shortened at random by up to a half
// so that many clients do not come back at once.
func (c *Client) backoff(round int) time.Duration {
	pause := c.config.MinBackoff << min(round, 16)
	pause = max(min(pause, c.config.MaxBackoff), 1)
	return pause - rand.N(pause/2+1)
}

// wait pauses. It returns false, at once, where the context would end before the pause does.
func wait(ctx context.Context, pause time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// giveUp says what is known after the last attempt: where one attempt may have applied the request, a later one that
// certainly did not changes nothing about that.
func giveUp(ctx context.Context, r *request, last *Error, uncertain bool) *Error {
	if last == nil {
		last = &Error{
			Code:   dems.Unavailable,
			Detail: "The operation was stopped before it was sent; send it again.",
			Err:    context.Cause(ctx),
		}
	}
	last.Key = r.key
	if !r.mutates || !uncertain {
		return last
	}
	switch last.Code {
	case dems.Indeterminate, dems.NoMajority, dems.Internal:
		return last
	}
	cause := last.Err
	if cause == nil {
		cause = last
	}
	detail := "No definite answer came in time and the operation may have been applied; ask again with the same idempotency key to learn the outcome."
	if r.key == "" {
		detail = "No definite answer came in time and it may have been done; look at the cluster before you ask again."
	}
	return &Error{
		Code:     dems.Indeterminate,
		Detail:   detail,
		Key:      r.key,
		Endpoint: last.Endpoint,
		Err:      cause,
	}
}
