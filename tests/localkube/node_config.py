"""The files that a node's programs read, and how these programs are started.

Every path is the upstream default, because each node has a mount namespace with its own folders
bound there. JSON is used throughout: it is YAML too.
"""

import json

from localkube import layout, pki
from localkube.layout import Node
from localkube.supervisor import Spec, Task

PAUSE_IMAGE = "localhost/pause:1"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
IMPORT = ("ctr", "--namespace", "k8s.io", "images", "import")

# Where programs expect their files -> the node's own folder that is bound there.
OWN_FOLDERS = {
    "/var/lib/containerd": "containerd",
    "/var/lib/kubelet": "kubelet",
    "/var/lib/cni": "cni",
    "/var/log/pods": "pod-logs",
    "/var/log/containers": "container-logs",
}

_CONTAINERD = """\
version = 2
disabled_plugins = [
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Without CAP_SYS_RESOURCE no process may lower its oom_score_adj, and every sandbox would fail.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def write_all(node: Node) -> None:
    """Write every configuration file of a node."""
    for folder in (*OWN_FOLDERS.values(), "cni-config", "volumes", "mounts", "logs"):
        (node.state / folder).mkdir(parents=True, exist_ok=True)
    containerd = _CONTAINERD.format(
        socket=CONTAINERD_SOCKET, pause=PAUSE_IMAGE, cni=node.state / "cni-config"
    )
    (node.state / "containerd.toml").write_text(containerd)
    (node.state / "resolv.conf").write_text("")  # nothing outside the cluster is resolved
    _write_json(node, "cni-config/10-pods.conflist", _cni(node))
    _write_json(node, "kubelet.json", _kubelet(node))
    _write_json(node, "kube-proxy.json", _kube_proxy(node))


def _write_json(node: Node, name: str, document: object) -> None:
    (node.state / name).write_text(json.dumps(document, indent=1) + "\n")


def _cni(node: Node) -> dict[str, object]:
    # The address file lies in /run: a rebooted node has no pods, so it must hold no addresses.
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isDefaultGateway": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": node.pod_cidr}]],
                    "dataDir": "/run/cni-addresses",
                },
            }
        ],
    }


def _kubelet(node: Node) -> dict[str, object]:
    taints = [{"key": layout.CLIENT_TAINT, "effect": "NoSchedule"}] if node.zone is None else []
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki.certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki.certificate(node.name)),
        "tlsPrivateKeyFile": str(pki.key(node.name)),
        "clusterDNS": [layout.DNS_ADDRESS],
        "clusterDomain": layout.CLUSTER_DOMAIN,
        "resolvConf": str(node.state / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "registerWithTaints": taints,
        "nodeStatusUpdateFrequency": "4s",
        "nodeLeaseDurationSeconds": 20,
        "maxPods": 60,
        # All nodes share the machine's disk: one node's clean-up would not help another.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
    }


def _kube_proxy(node: Node) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(pki.kubeconfig_path("proxy"))},
        "hostnameOverride": node.name,
        "mode": "iptables",
        "clusterCIDR": layout.POD_CIDR,
        "detectLocalMode": "ClusterCIDR",
        # These sysctls are read-only in a network namespace: zero means leave them alone.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "iptables": {"minSyncPeriod": "50ms", "syncPeriod": "30s"},
    }


def supervisor_spec(node: Node, namespace_path: str, images: list[str]) -> Spec:
    """What the node's first process starts, in this order."""
    labels = [f"{layout.ZONE_LABEL}={node.zone}"] if node.zone else []
    kubelet = [
        str(layout.BIN / "kubelet"),
        f"--config={node.state}/kubelet.json",
        f"--kubeconfig={pki.kubeconfig_path(node.name)}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--node-labels={','.join(labels)}",
    ]
    proxy = [str(layout.BIN / "kube-proxy"), f"--config={node.state}/kube-proxy.json"]
    runtime = ["containerd", f"--config={node.state}/containerd.toml", "--log-level=warn"]
    imports = [
        Task(f"import-{number}", [*IMPORT, image], wait_for=CONTAINERD_SOCKET, once=True)
        for number, image in enumerate(images)
    ]
    return Spec(
        name=node.name,
        cgroup=f"{node.cgroup}/system",
        pid_file=str(node.pid_file),
        log_folder=str(node.state / "logs"),
        network_namespace=namespace_path,
        binds=[(str(node.state / own), target) for target, own in OWN_FOLDERS.items()],
        tasks=[
            Task("containerd", runtime),
            Task("kube-proxy", proxy),
            *imports,
            Task("kubelet", kubelet, wait_for=CONTAINERD_SOCKET),
        ],
    )
