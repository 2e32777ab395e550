package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dems"
	"dems/internal/faultnet"
)

func TestLossAndDelay(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		lab.start("n1", Config{}).Serve(&stub{
			propose: echo,
			votes: func(ctx context.Context, _ uint64, send func([]dems.Vote) error) error {
				for i := range 1000 {
					if err := send(votesFrom(i*10, 10)); err != nil {
						return err
					}
				}
				<-ctx.Done()
				return ctx.Err()
			},
		})
		lab.network.SetAll(faultnet.Link{Loss: 0.05, Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond})
		replica := lab.start("fe1", Config{}).Replica("n1")
		var group sync.WaitGroup
		for caller := range 8 {
			group.Go(func() {
				for i := range 10 {
					entry := bytes.Repeat([]byte{byte(caller), byte(i)}, 1+caller*i*400)
					reply, err := replica.Propose(t.Context(), entry)
					if err != nil || !bytes.Equal(reply.Results, entry) {
						t.Errorf("caller %d, entry %d: %v", caller, i, err)
					}
				}
			})
		}
		next := uint64(0)
		err := replica.Votes(t.Context(), 1, func(votes []dems.Vote) error {
			for _, vote := range votes {
				if vote.Index != next {
					t.Errorf("got vote %d, want %d", vote.Index, next)
				}
				next++
			}
			if next == 10_000 {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) {
			t.Errorf("after %d votes: %v", next, err)
		}
		group.Wait()
		if sent, dropped := lab.network.Counts(); dropped*100 < sent {
			t.Errorf("only %d of %d packets were lost: nothing was tested", dropped, sent)
		}
	})
}

// hanging returns a handler that answers nothing until the call ends, and where it notes its calls.
func hanging() (*stub, chan struct{}) {
	entered := make(chan struct{}, 16)
	return &stub{
		propose: func(ctx context.Context, _ []byte) (dems.BatchReply, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return dems.BatchReply{}, ctx.Err()
		},
		votes: func(ctx context.Context, _ uint64, _ func([]dems.Vote) error) error {
			entered <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		},
		readIndex: func(context.Context) (uint64, error) { return 1, nil },
	}, entered
}

// notice starts a call of each sort, breaks something once they are under way, and returns how long until they had failed.
func notice(t *testing.T, replica *Replica, entered chan struct{}, breakIt func()) (votes, proposal time.Duration) {
	t.Helper()
	var begin time.Time
	var group sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	group.Go(func() {
		kind(t, replica.Votes(ctx, 1, nil), dems.UnknownOutcome)
		votes = time.Since(begin)
	})
	group.Go(func() {
		_, err := replica.Propose(ctx, []byte("x"))
		kind(t, err, dems.UnknownOutcome)
		proposal = time.Since(begin)
	})
	<-entered
	<-entered
	synctest.Wait()
	time.Sleep(10 * time.Second) // until only keep-alives go over the network
	begin = time.Now()
	breakIt()
	group.Wait()
	return votes, proposal
}

func TestADeadNodeIsNoticed(t *testing.T) {
	const idle = 2 * time.Second
	for name, test := range map[string]struct {
		breakIt func(lab *lab, node *Endpoint)
		most    time.Duration
	}{
		"closed": {func(_ *lab, node *Endpoint) { go node.Close() }, 0},
		// The idle timeout begins with the first keep-alive that is not answered.
		"killed":              {func(_ *lab, node *Endpoint) { node.abort() }, idle + idle/3},
		"cut off":             {func(lab *lab, _ *Endpoint) { lab.network.Partition([]string{"n1"}, []string{"fe1"}) }, idle + idle/3},
		"cut off from client": {func(lab *lab, _ *Endpoint) { lab.network.SetLink("fe1", "n1", faultnet.Link{Cut: true}) }, idle + idle/3},
		"cut off to client":   {func(lab *lab, _ *Endpoint) { lab.network.SetLink("n1", "fe1", faultnet.Link{Cut: true}) }, idle + idle/3},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, lab *lab) {
				node := lab.start("n1", Config{IdleTimeout: idle})
				handler, entered := hanging()
				node.Serve(handler)
				frontEnd := lab.start("fe1", Config{IdleTimeout: idle})
				replica := frontEnd.Replica("n1")
				votes, proposal := notice(t, replica, entered, func() { test.breakIt(lab, node) })
				t.Logf("noticed after %v (votes), %v (proposal)", votes, proposal)
				if votes > test.most || proposal > test.most {
					t.Errorf("noticed after %v and %v, want at most %v", votes, proposal, test.most)
				}
				// From now on nothing is sent.
				begin := time.Now()
				_, err := replica.ReadIndex(t.Context())
				kind(t, err, dems.NotApplied)
				if took := time.Since(begin); took > 2*time.Second {
					t.Errorf("a new call took %v", took)
				}
				if name == "closed" || name == "killed" {
					return
				}
				lab.network.Heal()
				begin = time.Now()
				if _, err := replica.ReadIndex(t.Context()); err != nil || time.Since(begin) > 10*time.Millisecond {
					t.Errorf("after the repair: %v after %v", err, time.Since(begin))
				}
			})
		})
	}
}

// TestAHealedNetworkIsNoticedSoon has a node be dialled while the network is cut: the connection is there soon after it has
// healed, however long it was cut.
func TestAHealedNetworkIsNoticedSoon(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		lab.start("n1", Config{}).Serve(&stub{propose: echo})
		frontEnd := lab.start("fe1", Config{})
		for lasts := 50 * time.Millisecond; lasts < 5*time.Second; lasts += 150 * time.Millisecond {
			replica := frontEnd.Replica("n1")
			lab.network.Partition([]string{"n1"}, []string{"fe1"})
			begin := time.Now()
			heal := time.AfterFunc(lasts, lab.network.Heal)
			err := errors.New("not yet")
			for err != nil && time.Since(begin) < time.Minute {
				_, err = replica.Propose(t.Context(), []byte("x"))
			}
			if noticed := time.Since(begin) - lasts; err != nil || noticed < 0 || noticed > dialAgain {
				t.Errorf("cut for %v, and connected %v later: %v", lasts, noticed, err)
			}
			heal.Stop()
			replica.Close()
		}
	})
}

// TestOnlyOneOfManyDialsIsKept: where an answer takes longer than the next attempt, several come to an answer, and one is used.
func TestOnlyOneOfManyDialsIsKept(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		node := lab.start("n1", Config{})
		node.Serve(&stub{propose: echo})
		lab.network.SetAll(faultnet.Link{Delay: dialAgain * 3 / 5})
		replica := lab.start("fe1", Config{}).Replica("n1")
		for range 3 {
			if _, err := replica.Propose(t.Context(), []byte("x")); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(10 * time.Second) // those that were given up are closed, or time out
		synctest.Wait()
		node.mutex.Lock()
		defer node.mutex.Unlock()
		if node.accepted != 1 {
			t.Errorf("%d connections", node.accepted)
		}
	})
}

func TestARestartedNodeIsNoticedAtOnce(t *testing.T) {
	for name, keep := range map[string]bool{"with its reset key": true, "with another reset key": false} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, lab *lab) {
				config := Config{}
				if keep {
					config.StatelessResetKeyFile = t.TempDir() + "/reset.key"
				}
				node := lab.start("n1", config)
				handler, entered := hanging()
				node.Serve(handler)
				replica := lab.start("fe1", Config{}).Replica("n1")
				votes, proposal := notice(t, replica, entered, func() {
					node.abort()
					lab.start("n1", config).Serve(handler)
				})
				t.Logf("noticed after %v (votes), %v (proposal)", votes, proposal)
				period := 2 * time.Second / 3 // the next keep-alive gets the reset
				if keep && (votes > period || proposal > period) || !keep && votes < period {
					t.Errorf("noticed after %v and %v", votes, proposal)
				}
				begin := time.Now()
				if _, err := replica.ReadIndex(t.Context()); err != nil || time.Since(begin) > 10*time.Millisecond {
					t.Errorf("the next call: %v after %v", err, time.Since(begin))
				}
			})
		})
	}
}

// TestACallToARestartedNode has nothing under way: the call itself finds out.
func TestACallToARestartedNode(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		config := Config{StatelessResetKeyFile: t.TempDir() + "/reset.key"}
		node := lab.start("n1", config)
		node.Serve(&stub{propose: echo})
		replica := lab.start("fe1", Config{}).Replica("n1")
		propose := func() error {
			_, err := replica.Propose(t.Context(), []byte("x"))
			return err
		}
		if err := propose(); err != nil {
			t.Fatal(err)
		}
		node.abort()
		lab.start("n1", config).Serve(&stub{propose: echo})
		begin := time.Now()
		kind(t, propose(), dems.UnknownOutcome) // it was sent; that nobody took it is not known
		if took := time.Since(begin); took != 0 {
			t.Errorf("the first call took %v", took)
		}
		if err := propose(); err != nil {
			t.Errorf("the second call: %v", err)
		}
	})
}

// TestAnIdleConnectionStays waits far longer than the idle timeout: keep-alives hold the connection.
func TestAnIdleConnectionStays(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		lab.start("n1", Config{}).Serve(&stub{propose: echo})
		replica := lab.start("fe1", Config{}).Replica("n1")
		if _, err := replica.Propose(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		first := replica.connector.current
		time.Sleep(time.Minute)
		before, _ := lab.network.Counts()
		time.Sleep(time.Minute)
		after, _ := lab.network.Counts()
		if perSecond := float64(after-before) / 60; perSecond > 4 {
			t.Errorf("an idle connection takes %.1f packets a second", perSecond)
		} else {
			t.Logf("%.2f packets a second", perSecond)
		}
		if first.quic.Context().Err() != nil || replica.connector.current != first {
			t.Error("the connection was lost")
		}
	})
}

// TestOneDialForAll lets many callers wait for one handshake.
func TestOneDialForAll(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		node := lab.start("n1", Config{})
		node.Serve(&stub{propose: echo})
		lab.network.SetAll(faultnet.Link{Delay: 20 * time.Millisecond})
		replica := lab.start("fe1", Config{}).Replica("n1")
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				if _, err := replica.Propose(t.Context(), []byte("x")); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		node.mutex.Lock()
		defer node.mutex.Unlock()
		if node.accepted != 1 {
			t.Errorf("%d connections", node.accepted)
		}
	})
}

func TestCloseEndsHandlersAndWaitsForThem(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		node := lab.start("n1", Config{})
		proceed, entered := make(chan struct{}), make(chan struct{})
		finished := false
		node.Serve(&stub{propose: func(ctx context.Context, _ []byte) (dems.BatchReply, error) {
			close(entered)
			<-ctx.Done()
			<-proceed
			finished = true
			return dems.BatchReply{}, ctx.Err()
		}})
		replica := lab.start("fe1", Config{}).Replica("n1")
		called := make(chan error, 1)
		go func() {
			_, err := replica.Propose(t.Context(), []byte("x"))
			called <- err
		}()
		<-entered
		closed := make(chan struct{})
		go func() {
			node.Close()
			close(closed)
		}()
		kind(t, <-called, dems.UnknownOutcome) // the caller does not wait for the handler
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close did not wait")
		default:
		}
		close(proceed)
		<-closed
		if !finished {
			t.Error("the handler had not returned")
		}
	})
}

func TestABrokenSocketIsReported(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		node, frontEnd := lab.start("n1", Config{}), lab.start("fe1", Config{})
		_, err := node.Replica("nobody").ReadIndex(t.Context())
		kind(t, err, dems.NotApplied)
		select {
		case <-node.Failed():
			t.Error("failed before anything broke: only a peer does not answer")
		default:
		}
		node.config.PacketConn.Close()
		<-node.Failed()
		frontEnd.config.PacketConn.Close()
		for range 2 { // without a listener it is noticed when dialling, by the second attempt at the latest
			_, err = frontEnd.Replica("n1").ReadIndex(t.Context())
			kind(t, err, dems.NotApplied)
			synctest.Wait()
		}
		<-frontEnd.Failed()
		closed := lab.start("n2", Config{})
		closed.Close()
		select {
		case <-closed.Failed():
			t.Error("a closed endpoint counts as failed")
		default:
		}
	})
}

func TestTooManyConnections(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		node := lab.start("n1", Config{})
		node.Serve(&stub{propose: echo})
		frontEnd := lab.start("fe1", Config{})
		propose := func(replica *Replica) error {
			_, err := replica.Propose(t.Context(), []byte("x"))
			return err
		}
		first := frontEnd.Replica("n1")
		if err := propose(first); err != nil {
			t.Fatal(err)
		}
		node.mutex.Lock()
		node.accepted += maxConnections - 1
		node.mutex.Unlock()
		kind(t, propose(frontEnd.Replica("n1")), dems.NotApplied)
		first.Close()
		synctest.Wait()
		if err := propose(frontEnd.Replica("n1")); err != nil {
			t.Errorf("after one connection ended: %v", err)
		}
	})
}

func TestListenRefuses(t *testing.T) {
	good := credentials(t, authority, "n1")
	short := t.TempDir() + "/short.key"
	if err := writeNew(short, 0o600, []byte("short")); err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]Config{
		"no credentials":       {},
		"keep-alives too rare": {Credentials: good, IdleTimeout: time.Second, KeepAlivePeriod: time.Second},
		"negative timeout":     {Credentials: good, DialTimeout: -1},
		"damaged reset key":    {Credentials: good, StatelessResetKeyFile: short},
		"absent folder":        {Credentials: good, StatelessResetKeyFile: t.TempDir() + "/absent/key"},
	} {
		t.Run(name, func(t *testing.T) {
			config.PacketConn = udp(t, "")
			if endpoint, err := Listen(config); err == nil {
				endpoint.Close()
				t.Error("no error")
			}
			if _, err := config.PacketConn.WriteTo(nil, config.PacketConn.LocalAddr()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the socket is still open: %v", err)
			}
		})
	}
	if _, err := Listen(Config{Credentials: good}); err == nil {
		t.Error("no socket: no error")
	}
}

func TestResetKeyIsKept(t *testing.T) {
	path := t.TempDir() + "/reset.key"
	first, err := loadResetKey(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := loadResetKey(path)
	if err != nil || *first != *second {
		t.Errorf("the key changed: %v", err)
	}
	random, err := loadResetKey("")
	if err != nil || *random == *first {
		t.Errorf("the random key: %v", err)
	}
	if fmt.Sprintf("%x", *first) == fmt.Sprintf("%064x", 0) {
		t.Error("the key is zero")
	}
}
