// Command coredns is CoreDNS with only the plugins that a cluster's DNS needs.
// It has a go.mod of its own because its dependencies differ from Kubernetes'.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

// CoreDNS runs its plugins in this order, whatever the Corefile's order is.
func init() {
	dnsserver.Directives = []string{
		"reload", "errors", "health", "ready", "cache", "kubernetes", "forward",
	}
}

func main() {
	coremain.Run()
}
