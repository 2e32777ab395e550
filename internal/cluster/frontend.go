package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"sync"

	"dems/frontend"
)

// FrontEnd starts a front end over the nodes, which it reaches as Replica does, and waits until it answers. It is stopped when the
// test ends, before the nodes are.
func (c *Cluster) FrontEnd() *httptest.Server {
	c.t.Helper()
	var addresses []string
	replicas := map[string]frontend.Replica{}
	for _, id := range c.IDs() {
		addresses = append(addresses, c.Address(id))
		replicas[c.Address(id)] = c.Replica(id)
	}
	core, err := frontend.NewCore(frontend.Config{
		ID: "fe1", Address: "http://fe1", Version: "test", Nodes: addresses, Logger: slog.New(slog.DiscardHandler),
		Dial: func(address string) frontend.Replica { return replicas[address] },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := core.Run(ctx); err != nil {
			c.t.Errorf("front end: %v", err)
		}
	})
	server := httptest.NewServer(frontend.NewHandler(core, frontend.RESTConfig{}))
	c.t.Cleanup(func() {
		server.Close()
		stop()
		running.Wait()
	})
	c.Eventually("the front end answers", func(ctx context.Context) error {
		if _, known := core.Cities(ctx); !known {
			return errors.New("the cities are not known")
		}
		for _, check := range core.Checks(ctx) {
			if check.Err != nil {
				return check.Err
			}
		}
		return nil
	})
	return server
}
