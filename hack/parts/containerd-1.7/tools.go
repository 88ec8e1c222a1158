//go:build tools

// Package containerd pins the last release of the line before containerd 2: the agent is tested on it, no node runs it.
package containerd

import _ "github.com/containerd/containerd/cmd/containerd"
