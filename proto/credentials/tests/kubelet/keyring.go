// Asks the kubelet's own keyring which logins it offers for an image, and in which order, and prints the answers that
// src/keyring.rs compares with. From the root of the repository:
//
//	(cd hack/parts/kubernetes && go run ../../../proto/credentials/tests/kubelet/keyring.go) > proto/credentials/tests/kubelet/keyring.jsonl
package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"sort"

	"k8s.io/kubernetes/pkg/credentialprovider"
)

type answer struct {
	// The repository, as the kubelet asks for it.
	Image string `json:"image"`
	// The keys of each Secret, in the order of imagePullSecrets.
	Secrets [][]string `json:"secrets"`
	// "<number of the Secret> <key>" of each login that is offered.
	Offered []string `json:"offered"`
}

func ask(image string, secrets [][]string) answer {
	ring := &credentialprovider.BasicDockerKeyring{}
	for number, keys := range secrets {
		sort.Strings(keys)
		// One at a time: among keys that mean the same, the order of a Go map is random.
		for _, key := range keys {
			name := fmt.Sprintf("%d %s", number, key)
			ring.Add(nil, credentialprovider.DockerConfig{key: {Username: name}})
		}
	}
	found, _ := ring.Lookup(image)
	offered := []string{}
	for _, login := range found {
		offered = append(offered, login.Username)
	}
	return answer{image, secrets, offered}
}

var chosen = []answer{
	ask("docker.io/library/nginx", [][]string{{"https://index.docker.io/v1/"}}),
	ask("docker.io/library/nginx", [][]string{{"index.docker.io"}, {"docker.io"}}),
	ask("docker.io/library/nginx", [][]string{{"https://index.docker.io/v2/"}, {"https://index.docker.io/v1"}}),
	ask("docker.io/team/app", [][]string{{"docker.io/team"}, {"index.docker.io/team"}}),
	ask("registry.test/team/app", [][]string{{"registry.test/team/ap", "registry.test/team/app/", "registry.test/team/app"}}),
	ask("registry.test/v2/app", [][]string{{"registry.test/v2/", "registry.test/v2", "registry.test/v1/app"}}),
	ask("registry.test/team/app", [][]string{{"user:password@registry.test", "registry.test?a=b", "registry.test#a", "REGISTRY.test"}}),
	ask("registry.test/team/app", [][]string{{"ftp://registry.test", "HTTPS://registry.test", "//registry.test", "registry.test:", ""}}),
	ask("registry.test/team/app", [][]string{{"registry .test", "[a-z]egistry.test", "registry.test/%zz", "registry.test:port"}}),
	ask("a.b.test/team/app", [][]string{{"*.test", "*.*.test", "a.*.test", "*", "**.b.test", "a*.b.test", "*a.b.*", "a.b.test."}}),
	ask("ab.test/app", [][]string{{"a*b*.test", "*ab*.test", "*b.test", "a*c.test", "*.t*t", "ab?.test", "a\\b.test"}}),
	ask("[::1]:5000/app", [][]string{{"[::1]:5000", "[::1]", "*:5000"}}),
	ask("localhost:5000/app", [][]string{{"localhost:5000", "localhost:*", "*:5000", "localhost", "l*t:5000"}}),
}

func main() {
	random := rand.New(rand.NewSource(1))
	pick := func(from ...string) string { return from[random.Intn(len(from))] }
	host := func() string {
		return pick("", "a.", "b.", "*.", "a*.") + pick("b", "c", "*", "b*", "*b") + pick(".test", ".t*", ".io") + pick("", "", "", ":5000", ":443")
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	for _, a := range chosen {
		_ = encoder.Encode(a)
	}
	for written := 0; written < 400; {
		image := pick("", "a.", "b.") + pick("b", "c", "bc") + pick(".test", ".io") + pick("", "", ":5000") + pick("/app", "/team/app", "/teams/app", "/v1/app")
		if random.Intn(8) == 0 {
			image = pick("docker.io", "index.docker.io") + pick("/library/nginx", "/team/app")
		}
		secrets := make([][]string, 1+random.Intn(3))
		for number := range secrets {
			keys := map[string]bool{}
			for range 1 + random.Intn(5) {
				of := host()
				if random.Intn(6) == 0 {
					of = pick("docker.io", "index.docker.io", "*.docker.io", "registry-1.docker.io")
				}
				keys[pick("", "", "https://", "http://")+of+pick("", "", "/", "/v1/", "/v2/", "/team", "/team/", "/team/app", "/v2/team")] = true
			}
			for key := range keys {
				secrets[number] = append(secrets[number], key)
			}
		}
		a := ask(image, secrets)
		// Of those that offer nothing, a few are enough.
		if len(a.Offered) > 1 || random.Intn(12) == 0 {
			_ = encoder.Encode(a)
			written++
		}
	}
}
