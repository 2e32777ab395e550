package target

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"dems"
)

// graceSeconds is how long the engine waits for a node that it was told to restart before it ends it: as long as
// docker-compose.yml gives nodes to hand leadership over.
const graceSeconds = 20

// Compose is a cluster of containers that compose brought up, known by its project. It goes by the labels that every version of
// compose gives containers, and asks the container engine through the command docker alone.
type Compose struct {
	project    string
	engine     engine
	containers map[dems.NodeID]string // IDs
	published  []string               // ports of this machine that lead to containers of the project

	mu sync.Mutex
	// broken are the nodes to which anything was done that has to be mended.
	broken map[dems.NodeID]bool
	// cut holds, of nodes that were disconnected, the names that they had in each network.
	cut map[dems.NodeID]map[string][]string
}

// OpenCompose returns the cluster of a compose project. Its containers exist; whether they run is not looked at.
func OpenCompose(ctx context.Context, project string) (*Compose, error) {
	c := &Compose{
		project: project, engine: engine{program: "docker"}, containers: make(map[dems.NodeID]string),
		broken: make(map[dems.NodeID]bool), cut: make(map[dems.NodeID]map[string][]string),
	}
	listed, err := c.engine.run(ctx, commandTimeout, "ps", "--all", "--no-trunc", "--quiet", "--filter", "label=com.docker.compose.project="+project)
	if err != nil {
		return nil, err
	}
	ids := strings.Fields(listed)
	if len(ids) == 0 {
		return nil, fmt.Errorf("compose project %q has no containers; make up brings a cluster up, and docker ps --all --format '{{.Label \"com.docker.compose.project\"}}' lists the projects", project)
	}
	containers, err := c.inspect(ctx, ids...)
	if err != nil {
		return nil, err
	}
	for i := range containers {
		c.published = append(c.published, containers[i].ports()...)
		id, isNode := containers[i].node()
		if !isNode {
			continue
		}
		if other := c.containers[id]; other != "" {
			return nil, fmt.Errorf("compose project %q has two containers of node %s, %.12s and %.12s; remove the one that does not belong there", project, id, other, containers[i].ID)
		}
		c.containers[id] = containers[i].ID
	}
	if len(c.containers) == 0 {
		return nil, fmt.Errorf("no container of compose project %q runs demsd node; name the project of a DEMS cluster", project)
	}
	return c, nil
}

// Description implements Cluster.
func (c *Compose) Description() string {
	return fmt.Sprintf("%d nodes in containers, compose project %s", len(c.containers), c.project)
}

// Nodes implements Cluster.
func (c *Compose) Nodes() []dems.NodeID { return slices.Sorted(maps.Keys(c.containers)) }

// Serves implements Cluster: every endpoint on this machine leads to a port that the project publishes. What other machines
// publish cannot be seen from here.
func (c *Compose) Serves(endpoints []string) error {
	for _, endpoint := range endpoints {
		if port, local := localPort(endpoint); local && !slices.Contains(c.published, port) {
			return fmt.Errorf("%s is not a front end of compose project %s, which is reached at these ports of this machine: %s; give its --endpoint",
				endpoint, c.project, strings.Join(slices.Compact(slices.Sorted(slices.Values(c.published))), ", "))
		}
	}
	return nil
}

// Kill implements Cluster. The engine takes it for the wish that the container stays down.
func (c *Compose) Kill(ctx context.Context, id dems.NodeID) error { return c.breaks(ctx, id, "kill") }

// Start implements Cluster.
func (c *Compose) Start(ctx context.Context, id dems.NodeID) error { return c.tell(ctx, id, "start") }

// Restart implements Cluster.
func (c *Compose) Restart(ctx context.Context, id dems.NodeID) error {
	return c.breaks(ctx, id, "restart", "-t", strconv.Itoa(graceSeconds))
}

// Pause implements Cluster.
func (c *Compose) Pause(ctx context.Context, id dems.NodeID) error { return c.breaks(ctx, id, "pause") }

// Resume implements Cluster.
func (c *Compose) Resume(ctx context.Context, id dems.NodeID) error {
	return c.tell(ctx, id, "unpause")
}

// Disconnect implements Network.
func (c *Compose) Disconnect(ctx context.Context, id dems.NodeID) error {
	if err := c.breaksNow(id); err != nil {
		return err
	}
	networks, err := c.networksOf(ctx, id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.cut[id] = networks
	c.mu.Unlock()
	for _, network := range slices.Sorted(maps.Keys(networks)) {
		if _, err := c.engine.run(ctx, commandTimeout, "network", "disconnect", network, c.containers[id]); err != nil {
			return err
		}
	}
	return nil
}

// Connect implements Network. The node gets back the names by which the others find it.
func (c *Compose) Connect(ctx context.Context, id dems.NodeID) error {
	c.mu.Lock()
	wanted := c.cut[id]
	c.mu.Unlock()
	if len(wanted) == 0 {
		return nil
	}
	present, err := c.networksOf(ctx, id)
	if err != nil {
		return err
	}
	for _, network := range slices.Sorted(maps.Keys(wanted)) {
		if _, connected := present[network]; connected {
			continue
		}
		arguments := []string{"network", "connect"}
		for _, alias := range wanted[network] {
			arguments = append(arguments, "--alias", alias)
		}
		if _, err := c.engine.run(ctx, commandTimeout, append(arguments, network, c.containers[id])...); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.cut, id)
	return nil
}

// Heal implements Cluster. It goes by what the engine says of the containers and not by what was told it: a command that failed
// or was given up may have taken effect.
func (c *Compose) Heal(ctx context.Context) error {
	c.mu.Lock()
	nodes := slices.Sorted(maps.Keys(c.broken))
	c.mu.Unlock()
	var all []error
	for _, id := range nodes {
		err := c.heal(ctx, id)
		all = append(all, err)
		if err == nil {
			c.mu.Lock()
			delete(c.broken, id)
			c.mu.Unlock()
		}
	}
	return errors.Join(all...)
}

// heal mends one node.
func (c *Compose) heal(ctx context.Context, id dems.NodeID) error {
	containers, err := c.inspect(ctx, c.containers[id])
	if err != nil {
		return err
	}
	switch containers[0].State.Status {
	case "paused":
		err = c.Resume(ctx, id)
	case "exited", "created", "dead":
		err = c.Start(ctx, id)
	}
	return errors.Join(err, c.Connect(ctx, id))
}

// breaks does something to a container that has to be mended.
func (c *Compose) breaks(ctx context.Context, id dems.NodeID, command ...string) error {
	if err := c.breaksNow(id); err != nil {
		return err
	}
	return c.tell(ctx, id, command...)
}

// breaksNow notes, before that is done, that a node has to be mended.
func (c *Compose) breaksNow(id dems.NodeID) error {
	if c.containers[id] == "" {
		return noNode(id, c.Nodes())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken[id] = true
	return nil
}

// tell has the engine do something to a node's container.
func (c *Compose) tell(ctx context.Context, id dems.NodeID, command ...string) error {
	container := c.containers[id]
	if container == "" {
		return noNode(id, c.Nodes())
	}
	limit := commandTimeout
	if command[0] == "restart" {
		limit += graceSeconds * time.Second
	}
	_, err := c.engine.run(ctx, limit, append(command, container)...)
	return err
}

// networksOf returns the networks that a node's container is connected to, with its names in each.
func (c *Compose) networksOf(ctx context.Context, id dems.NodeID) (map[string][]string, error) {
	if c.containers[id] == "" {
		return nil, noNode(id, c.Nodes())
	}
	containers, err := c.inspect(ctx, c.containers[id])
	if err != nil {
		return nil, err
	}
	networks := make(map[string][]string)
	for name, network := range containers[0].NetworkSettings.Networks {
		networks[name] = containers[0].names(network.Aliases)
	}
	return networks, nil
}

// inspect returns what the engine says of containers: of each that was asked for, in the same order.
func (c *Compose) inspect(ctx context.Context, ids ...string) ([]container, error) {
	text, err := c.engine.run(ctx, commandTimeout, append([]string{"container", "inspect"}, ids...)...)
	if err != nil {
		return nil, err
	}
	containers, err := parseContainers([]byte(text))
	if err == nil && len(containers) != len(ids) {
		err = fmt.Errorf("%d containers of %d", len(containers), len(ids))
	}
	if err != nil {
		return nil, fmt.Errorf("what docker container inspect writes cannot be read (%w); use a newer demsctl", err)
	}
	return containers, nil
}
