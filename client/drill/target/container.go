package target

import (
	"encoding/json"
	"slices"
	"strings"

	"dems"
)

// container is what a drill needs of what the engine tells of a container.
type container struct {
	ID    string `json:"Id"`
	State struct {
		Status string // created, running, paused, restarting, exited, dead
	}
	Config struct {
		Labels map[string]string
		Env    []string
		Cmd    []string
	}
	NetworkSettings struct {
		Ports    map[string][]struct{ HostPort string }
		Networks map[string]struct{ Aliases []string }
	}
}

// parseContainers reads what docker container inspect writes.
func parseContainers(data []byte) ([]container, error) {
	var containers []container
	if err := json.Unmarshal(data, &containers); err != nil {
		return nil, err
	}
	return containers, nil
}

// service is the name that docker-compose.yml has for the container.
func (c *container) service() string { return c.Config.Labels["com.docker.compose.service"] }

// node returns the ID of the node that runs in the container, if one does: what demsd is told, else the name of the service.
func (c *container) node() (dems.NodeID, bool) {
	if !slices.Contains(c.Config.Cmd, "node") {
		return "", false
	}
	id := c.service()
	for _, variable := range c.Config.Env {
		if value, found := strings.CutPrefix(variable, "DEMSD_ID="); found {
			id = value
		}
	}
	if value, found := flagOf(c.Config.Cmd, "--id"); found {
		id = value
	}
	return dems.NodeID(id), dems.ValidName(id)
}

// ports returns the ports of the machine that lead to the container.
func (c *container) ports() []string {
	var all []string
	for _, bindings := range c.NetworkSettings.Ports {
		for _, binding := range bindings {
			all = append(all, binding.HostPort)
		}
	}
	return all
}

// names returns by which names the others find the container: those that it has, without the one that the engine makes of its
// ID and gives to it anew, and with that of its service.
func (c *container) names(aliases []string) []string {
	names := slices.DeleteFunc(append([]string{c.service()}, aliases...), func(name string) bool {
		return name == "" || strings.HasPrefix(c.ID, name)
	})
	return slices.Compact(slices.Sorted(slices.Values(names)))
}
