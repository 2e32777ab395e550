package frontend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"dems"
)

const (
	// maxBackups is how many backups a front end hands on at once. Each keeps a node from letting go of a state.
	maxBackups = 2
	// headPatience is how long a node may take until it says what its backup is of, nextPatience how long one may that claims less
	// than what it is asked for, after one that was slow.
	headPatience = 3 * time.Second
	nextPatience = time.Second
	// lastPatience is how long voters that did not answer lately may take to say what they have applied when all others have.
	lastPatience = 300 * time.Millisecond
	// partPatience is how long a node may take for the next piece of a backup. Before the first it forms the digest of its state
	// again and makes its city logs durable.
	partPatience = 30 * time.Second
	// confirmPatience is how long the voters may take to tell what state they had.
	confirmPatience = 3 * time.Second
)

// Backup says what a backup is of, and who stands for it.
type Backup struct {
	Origin   dems.Origin
	Node     dems.NodeID // that gives it
	Agreeing int         // voters that had that state at that index by their own word, the one that gives it included
	Asked    int         // voters that were asked
}

// Backup implements Cluster. One node after the other is asked for a backup. Nothing of it goes out before a majority of the
// voters has said by itself that it had the same state at that index; a node that says something else is passed over.
func (c *Core) Backup(ctx context.Context, begin func(Backup) (io.Writer, error)) error {
	select {
	case c.backups <- struct{}{}:
		defer func() { <-c.backups }()
	default:
		return &dems.Error{Code: dems.RateLimited, Detail: "Other backups are on their way; wait until one has ended."}
	}
	done := make(chan error, 1)
	c.ask(ctx, func(ctx context.Context) { done <- c.giveBackup(ctx, begin) }, func() { done <- errEnded })
	err := <-done
	if c.reader.isEnded() && err != nil {
		return &dems.Error{Code: dems.Unavailable, Detail: "The front end is stopping; ask another one."}
	}
	return err
}

// giveBackup asks for a backup of the newest index that a voter has applied by its own word. Where that one itself does not come to
// have a backup of it, and nobody else, it has claimed too much: as long as those that claim no more than the next lower index are a
// majority, that is asked for. A node that claims too much and makes up a backup of it as well keeps all away: it cannot be told
// from one that alone has what it has acknowledged.
func (c *Core) giveBackup(ctx context.Context, begin func(Backup) (io.Writer, error)) error {
	view, claims, err := c.allApplied(ctx)
	if err != nil {
		return err
	}
	failed := &backupFailure{}
	for i, newest := range claims {
		if i > 0 && newest.applied == claims[i-1].applied {
			continue
		}
		if len(claims)-i < view.majority() {
			break
		}
		round := &backupRound{core: c, view: view, minIndex: newest.applied, claims: claims, begin: begin, failed: failed}
		if over, err := round.run(ctx); over {
			return err
		}
		if round.mayExist {
			break
		}
	}
	return failed.err()
}

// backupFailure is why nobody gave a backup.
type backupFailure struct {
	reasons  []string
	disagree bool
}

func (f *backupFailure) err() error {
	code := dems.Unavailable
	if f.disagree {
		code = dems.NoMajority
	}
	return &dems.Error{Code: code, Detail: "No node gives a backup that a majority confirms (" + strings.Join(f.reasons, "; ") + ")."}
}

// appliedClaim is what a voter says that it has applied.
type appliedClaim struct {
	by      *node
	applied uint64
}

// backupRound asks for a backup of an index or a later one.
type backupRound struct {
	core     *Core
	view     *view
	minIndex uint64
	claims   []appliedClaim
	begin    func(Backup) (io.Writer, error)
	failed   *backupFailure
	mayExist bool // a node has a backup of it, or one that claims to have applied it was not given the time to show that
}

// run asks one node after the other. It is over unless another round may do better.
func (r *backupRound) run(ctx context.Context) (over bool, err error) {
	c, patience := r.core, headPatience
	isClaimant := func(n *node) bool {
		return slices.ContainsFunc(r.claims, func(c appliedClaim) bool { return c.by == n && c.applied >= r.minIndex })
	}
	for _, n := range c.bySuitability(r.view) {
		if isClaimant(n) {
			patience = headPatience
		}
		attempt := &backupAttempt{core: c, view: r.view, from: n, minIndex: r.minIndex, begin: r.begin}
		err := attempt.run(ctx, patience)
		if attempt.to != nil {
			c.backedUpBy.Store(n)
		}
		if err == nil || attempt.to != nil || attempt.refused || ctx.Err() != nil {
			return true, err
		}
		slow := errors.Is(err, errSlow)
		r.mayExist = r.mayExist || attempt.backup.Asked > 0 || isClaimant(n) && !slow
		if slow {
			patience = nextPatience // whoever is asked next has had all this time to reach the index
		}
		c.config.Logger.Warn("a node gives no backup", "node", n.name(), "index", r.minIndex, "error", err)
		r.failed.reasons = append(r.failed.reasons, fmt.Sprintf("%s at index %d: %v", n.name(), r.minIndex, err))
		r.failed.disagree = r.failed.disagree || errors.Is(err, errDisagree)
	}
	return false, nil
}

// allApplied returns the voters, and what those that answer and are ready, a majority at least, say that they have applied, the newest
// first. The newest covers everything that was acknowledged to anybody before the call: what is acknowledged a majority has applied,
// and so has one of any other majority. That one may be wrong and say less, so all that answered lately are waited for. A node that is
// not ready does not count: since its start it may not have applied again what it once had.
func (c *Core) allApplied(ctx context.Context) (*view, []appliedClaim, error) {
	ctx, cancel := context.WithTimeout(ctx, laneTimeout)
	defer cancel()
	view, err := c.reader.awaitVoters(ctx)
	if err != nil {
		return nil, nil, err
	}
	answers := make(chan appliedClaim, len(view.voters)) // applied is 0 where there is none
	awaited := make(map[*node]bool)                      // those that answered lately
	for _, n := range view.voters {
		if _, err := c.members.statusOf(n); err == nil {
			awaited[n] = true
		}
		c.ask(ctx, func(ctx context.Context) {
			status, err := n.replica.Status(ctx)
			if err != nil || !status.Ready || !view.hears(n, status.ID, status.Incarnation) {
				status.Applied = 0
			}
			answers <- appliedClaim{n, status.Applied}
		}, func() { answers <- appliedClaim{n, 0} })
	}
	var claims []appliedClaim
	var last *time.Timer
	for range view.voters {
		got := <-answers
		if delete(awaited, got.by); got.applied > 0 {
			claims = append(claims, got)
		}
		if last == nil && len(claims) >= view.majority() && len(awaited) == 0 {
			last = time.AfterFunc(lastPatience, cancel) // the rest answers 0
			defer last.Stop()
		}
	}
	if len(claims) < view.majority() {
		return nil, nil, &dems.Error{Code: dems.Unavailable, Detail: "No majority of the nodes answers and is ready; try again later."}
	}
	slices.SortFunc(claims, func(a, b appliedClaim) int { return cmp.Compare(b.applied, a.applied) })
	return view, claims, nil
}

// ask runs a question to a node, which ends with ctx and with the core; where the core has ended, instead does.
func (c *Core) ask(ctx context.Context, question func(ctx context.Context), instead func()) {
	started := c.reader.start(func(reading context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(reading, cancel)()
		question(ctx)
	})
	if !started {
		instead()
	}
}

// bySuitability returns the voters in the order in which they are asked for a backup: first those that do not lead and have given
// no wrong answer lately, and of these last the one that gave a backup last: whoever is given one that breaks off, or is not what a
// majority has confirmed, asks again, and must not get it from the same node.
func (c *Core) bySuitability(view *view) []*node {
	weight := func(n *node) int {
		status, err := c.members.statusOf(n)
		switch {
		case err != nil:
			return 3
		case c.judge.strikesOf(n.name(), status.Incarnation) > 0:
			return 2
		case n == view.leader:
			return 1
		}
		return 0
	}
	last := c.backedUpBy.Load()
	return slices.SortedStableFunc(slices.Values(view.voters), func(a, b *node) int {
		switch order := cmp.Compare(weight(a), weight(b)); {
		case order != 0 || a == b:
			return order
		case a == last:
			return 1
		case b == last:
			return -1
		}
		return 0
	})
}

// errDisagree means that a node gives a backup of another state than a majority had.
var errDisagree = errors.New("its state is not that of a majority")

// backupAttempt is one node's backup on its way.
type backupAttempt struct {
	core     *Core
	view     *view
	from     *node
	minIndex uint64
	begin    func(Backup) (io.Writer, error)
	backup   Backup
	to       io.Writer // nil before the first piece
	refused  bool      // begin did not want it
}

// run asks for the backup and hands it on.
func (a *backupAttempt) run(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := time.AfterFunc(patience, func() { cancel(errSlow) })
	defer slow.Stop()
	err := a.from.replica.Backup(ctx, a.minIndex, func(part dems.BackupPart) error {
		slow.Stop() // what comes now takes the reader's time, not the node's
		defer slow.Reset(partPatience)
		return a.take(ctx, part)
	})
	if err != nil && errors.Is(context.Cause(ctx), errSlow) {
		err = errSlow
	}
	if err == nil && a.to == nil {
		err = errors.New("it has sent nothing")
	}
	return err
}

var (
	errSlow  = errors.New("it takes too long")
	errEnded = errors.New("the front end has ended")
)

// take takes a piece. The first says what the backup is of.
func (a *backupAttempt) take(ctx context.Context, part dems.BackupPart) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if a.backup.Asked == 0 {
		if part.Origin.Index < a.minIndex {
			return fmt.Errorf("its backup is of index %d", part.Origin.Index)
		}
		a.backup = Backup{Origin: part.Origin, Node: a.from.name()}
		return a.confirm(ctx)
	}
	if a.to == nil {
		to, err := a.begin(a.backup)
		if err != nil {
			a.refused = true
			return err
		}
		a.to = to
	}
	_, err := a.to.Write(part.Data)
	return err
}

// confirm asks all voters what state they had, until a majority has told the same.
func (a *backupAttempt) confirm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, confirmPatience)
	defer cancel()
	view, origin := a.view, a.backup.Origin
	type answer struct {
		digest dems.Digest
		err    error
	}
	answers := make(chan answer, len(view.voters))
	for _, n := range view.voters {
		a.core.ask(ctx, func(ctx context.Context) {
			digest, err := stateAt(ctx, n, origin.Index)
			answers <- answer{digest, err}
		}, func() { answers <- answer{err: errEnded} })
	}
	a.backup.Asked = len(view.voters)
	others := make(map[dems.Digest]int)
	var problems error
	for range view.voters {
		got := <-answers
		switch {
		case got.err != nil:
			problems = errors.Join(problems, got.err)
		case got.digest == origin.Digest:
			if a.backup.Agreeing++; a.backup.Agreeing >= view.majority() {
				return nil
			}
		default:
			if others[got.digest]++; others[got.digest] >= view.majority() {
				return fmt.Errorf("%w: at index %d it has %s, %d of %d have %s", errDisagree, origin.Index, origin.Digest,
					others[got.digest], len(view.voters), got.digest)
			}
		}
	}
	if len(others) > 0 {
		return fmt.Errorf("%w: at index %d only %d of %d have %s", errDisagree, origin.Index, a.backup.Agreeing, len(view.voters), origin.Digest)
	}
	return fmt.Errorf("only %d of %d confirm its state at index %d: %w", a.backup.Agreeing, len(view.voters), origin.Index, problems)
}

// stateAt asks a node for the digest of its state at an index until it has applied it.
func stateAt(ctx context.Context, n *node, index uint64) (dems.Digest, error) {
	for {
		digest, err := n.replica.StateAt(ctx, index)
		if err == nil {
			return digest, nil
		}
		if kind, _ := refusal(err); kind != dems.NotReady || !pause(ctx, nil, retryPause) {
			return dems.Digest{}, err
		}
	}
}
