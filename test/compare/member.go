package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// memberCommand is the first argument of a process that is an etcd member.
const memberCommand = "member"

const (
	members      = 3
	startTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
	readyLine    = "ready"
)

// runMember is one etcd member. It prints a line when it is ready and runs until its standard input ends, which it does
// when the process that started it is gone.
func runMember(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	var name, dir, client, peer, cluster string
	flags := flag.NewFlagSet(memberCommand, flag.ContinueOnError)
	flags.StringVar(&name, "name", "", "")
	flags.StringVar(&dir, "dir", "", "")
	flags.StringVar(&client, "client", "", "")
	flags.StringVar(&peer, "peer", "", "")
	flags.StringVar(&cluster, "cluster", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config := embed.NewConfig() // fsync is on unless UnsafeNoFsync is set
	config.Name, config.Dir, config.InitialCluster = name, dir, cluster
	clientURL, peerURL := url.URL{Scheme: "http", Host: client}, url.URL{Scheme: "http", Host: peer}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{clientURL}, []url.URL{clientURL}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peerURL}, []url.URL{peerURL}
	config.LogLevel, config.LogOutputs = "warn", []string{filepath.Join(filepath.Dir(dir), name+".log")}
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer etcd.Close()
	select {
	case <-etcd.Server.ReadyNotify():
	case err := <-etcd.Err():
		return err
	case <-time.After(startTimeout):
		return errors.New("not ready in time")
	}
	fmt.Fprintln(stdout, readyLine)
	orphaned := make(chan struct{})
	go func() {
		defer close(orphaned) // the process ends with it or before it
		_, _ = io.Copy(io.Discard, stdin)
	}()
	select {
	case <-ctx.Done():
	case <-orphaned:
	case err := <-etcd.Err():
		return err
	}
	return nil
}

// member is a process that is an etcd member.
type member struct {
	name, client, peer string
	dir, peers         string
	command            *exec.Cmd
	stdin              io.Closer
	stdout             *bufio.Reader
}

// cluster is three members.
type cluster struct{ members []*member }

// startCluster starts the members and waits until every one is ready.
func startCluster(ctx context.Context, dir string, stderr io.Writer) (*cluster, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addresses, err := freeAddresses(2 * members)
	if err != nil {
		return nil, err
	}
	c := &cluster{}
	var peers []string
	for i := range members {
		name := fmt.Sprintf("m%d", i+1)
		m := &member{name: name, client: addresses[2*i], peer: addresses[2*i+1], dir: filepath.Join(dir, name)}
		c.members = append(c.members, m)
		peers = append(peers, m.name+"=http://"+m.peer)
	}
	for _, m := range c.members {
		m.peers = strings.Join(peers, ",")
		if err := m.start(executable, stderr); err != nil {
			return nil, errors.Join(err, c.stop())
		}
	}
	for _, m := range c.members {
		if err := m.waitReady(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", m.name, err), c.stop())
		}
	}
	return c, nil
}

func (m *member) start(executable string, stderr io.Writer) error {
	m.command = exec.Command(executable, memberCommand,
		"-name", m.name, "-dir", m.dir, "-client", m.client, "-peer", m.peer, "-cluster", m.peers)
	m.command.Stderr = stderr
	stdin, err := m.command.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := m.command.StdoutPipe()
	if err != nil {
		return err
	}
	m.stdin, m.stdout = stdin, bufio.NewReader(stdout)
	return m.command.Start()
}

// waitReady waits for the ready line. Should the context end first, the member is ended, which ends the waiting.
func (m *member) waitReady(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = m.stdin.Close() })()
	line, err := m.stdout.ReadString('\n')
	if err == nil && strings.TrimSpace(line) != readyLine {
		err = fmt.Errorf("unexpected %q", line)
	}
	return errors.Join(err, ctx.Err())
}

// kill ends a member as a crash would.
func (m *member) kill() error {
	if err := m.command.Process.Kill(); err != nil {
		return err
	}
	_ = m.command.Wait() // it says that the member was killed, and closes what leads to it
	return nil
}

// restart starts a member that was killed, with the data that it has, and waits until it is ready.
func (m *member) restart(ctx context.Context, stderr io.Writer) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	if err := m.start(executable, stderr); err != nil {
		return err
	}
	return m.waitReady(ctx)
}

// stop ends every member that was started, and waits for it.
func (c *cluster) stop() error {
	var failed error
	for _, m := range c.members {
		if m.stdin != nil {
			_ = m.stdin.Close() // a member that is gone has closed it
		}
	}
	for _, m := range c.members {
		if m.command == nil || m.command.Process == nil {
			continue
		}
		timer := time.AfterFunc(stopTimeout, func() { _ = m.command.Process.Kill() })
		failed = errors.Join(failed, m.command.Wait())
		timer.Stop()
	}
	return failed
}

func (c *cluster) endpoints() []string {
	var endpoints []string
	for _, m := range c.members {
		endpoints = append(endpoints, m.client)
	}
	return endpoints
}

// freeAddresses returns loopback addresses with ports that were free a moment ago.
func freeAddresses(count int) ([]string, error) {
	var addresses []string
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close() // after the loop: every port is a different one
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}
