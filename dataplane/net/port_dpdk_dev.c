/* port_dpdk_dev.c - a device of DPDK found, set up with what it offers, and started. */
#include "dataplane/net/port_dpdk.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <net/if.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mempool.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define RSS_WANTED (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP)
#define POOL_CACHE 256u
#define FRAME_MIN  2048u /* room of a buffer at least */

/* ---- which */

static void names_of_all(char *out_r, size_t cap)
{
    char name[RTE_ETH_NAME_MAX_LEN];
    size_t at = 0;
    uint16_t id;
    out_r[0] = 0;
    RTE_ETH_FOREACH_DEV(id)
    if (at < cap && rte_eth_dev_get_name_by_port(id, name) == 0)
        at += (size_t)snprintf(out_r + at, cap - at, "%s%s", at ? ", " : "", name);
}

#define REMEDY_NONE                                                                                                    \
    "name a virtual one in dataplane.eal (--vdev=net_af_packet0,iface=veth1), or bind a NIC (dpdk-devbind.py -b "      \
    "vfio-pci 0000:3b:00.0)"

static int device_find(struct dpdk_port *d, const struct port_dpdk_config *cfg, char *why_r)
{
    const char *name = cfg->device;
    char names[128];
    uint16_t n = rte_eth_dev_count_avail();
    names_of_all(names, sizeof names);
    if (n == 0)
        return dpdk_fail(-SATCHEL_ENOENT, why_r, dpdk_remedy(dpdk_pci_remedy(cfg, REMEDY_NONE)),
                         "DPDK found no device");
    if (name && rte_eth_dev_get_port_by_name(name, &d->id) != 0)
        return dpdk_fail(-SATCHEL_ENOENT, why_r, "set dataplane.device to one of those", "no device %s; there are: %s",
                         name, names);
    if (!name && n > 1)
        return dpdk_fail(-SATCHEL_EINVAL, why_r, "set dataplane.device to one of them", "%u devices: %s", n, names);
    if (!name)
        d->id = rte_eth_find_next(0);
    rte_eth_dev_get_name_by_port(d->id, d->info.name);
    dpdk_said_forget();
    return 0;
}

/* ---- what it offers */

/* Devices whose receive queues exist because somebody asked for them: the kernel feeds them all. */
static bool queues_are_fed(const struct rte_eth_dev_info *di)
{
    return strcmp(di->driver_name, "net_af_packet") == 0 || strcmp(di->driver_name, "net_af_xdp") == 0;
}

static bool device_spreads(const struct rte_eth_dev_info *di, uint32_t queues)
{
    return di->max_rx_queues >= queues && di->reta_size > 0 && (di->flow_type_rss_offloads & RTE_ETH_RSS_TCP);
}

static uint16_t at_most(uint32_t n, uint32_t max)
{
    return (uint16_t)(n < max ? n : max);
}

/* Where flows are not spread, queues are virtual: each to send is one of the other end's to receive, which may serve no
 * more of them than we do. */
static void device_offer(struct dpdk_port *d, const struct port_dpdk_config *cfg, const struct rte_eth_dev_info *di,
                         struct rte_eth_conf *conf_r)
{
    uint64_t rx = cfg->offloads ? di->rx_offload_capa : 0, tx = cfg->offloads ? di->tx_offload_capa : 0;
    d->info.rss = cfg->queues > 1 && device_spreads(di, cfg->queues);
    d->nb_rx = d->info.rss ? (uint16_t)cfg->queues : queues_are_fed(di) ? at_most(di->max_rx_queues, DPDK_RX_MAX) : 1;
    d->nb_tx = d->info.rss ? at_most(cfg->queues, di->max_tx_queues) : d->nb_rx;
    conf_r->rxmode.offloads = rx & (RTE_ETH_RX_OFFLOAD_CHECKSUM | RTE_ETH_RX_OFFLOAD_VLAN_STRIP);
    conf_r->txmode.offloads = tx & (RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM |
                                    RTE_ETH_TX_OFFLOAD_VLAN_INSERT | RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE);
    if (cfg->vlan) /* net_virtio's device, and virtual functions of NICs, let no tagged frame through unasked */
        conf_r->rxmode.offloads |= di->rx_offload_capa & RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
    conf_r->intr_conf.rxq = 1;
    conf_r->intr_conf.lsc = di->dev_flags && *di->dev_flags & RTE_ETH_DEV_INTR_LSC ? 1 : 0;
    if (d->info.rss) {
        conf_r->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf_r->rxmode.offloads |= rx & RTE_ETH_RX_OFFLOAD_RSS_HASH;
        conf_r->rx_adv_conf.rss_conf.rss_hf = RSS_WANTED & di->flow_type_rss_offloads;
        conf_r->rx_adv_conf.rss_conf.rss_key = di->hash_key_size ? (uint8_t *)d->key : NULL;
        conf_r->rx_adv_conf.rss_conf.rss_key_len = (uint8_t)at_most(di->hash_key_size, DPDK_KEY_BYTES);
    }
}

static void device_offered(struct dpdk_port *d, const struct rte_eth_conf *conf)
{
    uint64_t rx = conf->rxmode.offloads, tx = conf->txmode.offloads;
    d->info.rx_ip_sum = rx & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
    d->info.rx_l4_sum = rx & RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
    d->info.rx_vlan = rx & RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
    d->info.tx_ip_sum = tx & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
    d->info.tx_tcp_sum = tx & RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
    d->info.tx_vlan = tx & RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
    d->prepare = d->info.tx_ip_sum || d->info.tx_tcp_sum;
}

/* ---- MTU */

/* The kernel's interface below a virtual device may carry less than DPDK knows. */
static uint32_t mtu_of_interface(const struct rte_eth_dev_info *di)
{
    struct ifreq r = {.ifr_mtu = 0};
    int fd =
        di->if_index && if_indextoname(di->if_index, r.ifr_name) ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0)
        return UINT16_MAX;
    int res = ioctl(fd, SIOCGIFMTU, &r);
    close(fd);
    return res == 0 && r.ifr_mtu > 0 ? (uint32_t)r.ifr_mtu : UINT16_MAX;
}

/* What rte_eth_dev_configure would refuse, asked before so that the error can say how much is taken. */
static uint32_t mtu_most(const struct rte_eth_dev_info *di)
{
    bool both = di->max_rx_pktlen != UINT32_MAX && di->max_mtu != UINT16_MAX && di->max_rx_pktlen > di->max_mtu;
    uint32_t around = both ? di->max_rx_pktlen - di->max_mtu : RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
    uint32_t fits = di->max_rx_pktlen > around ? di->max_rx_pktlen - around : 0;
    return fits < di->max_mtu ? fits : di->max_mtu;
}

static int mtu_choose(struct dpdk_port *d, uint16_t mtu, const struct rte_eth_dev_info *di, struct rte_eth_conf *conf_r,
                      char *why_r)
{
    uint16_t now = RTE_ETHER_MTU;
    uint32_t most = mtu_most(di), below = mtu_of_interface(di);
    rte_eth_dev_get_mtu(d->id, &now);
    if (mtu > most)
        return dpdk_fail(-SATCHEL_EINVAL, why_r, "leave dataplane.mtu at 0, or set one that it takes",
                         "%s takes an MTU of at most %u, not %u", d->info.name, most, mtu);
    d->info.mtu = mtu ? mtu : now < below ? now : (uint16_t)below;
    conf_r->rxmode.mtu = mtu;
    return 0;
}

/* A device that cannot be told its MTU is asked for no more than it has. */
static int mtu_tell(const struct dpdk_port *d, uint16_t mtu)
{
    int res = mtu ? rte_eth_dev_set_mtu(d->id, mtu) : 0;
    return res == -ENOTSUP && d->info.mtu <= RTE_ETHER_MTU ? 0 : res;
}

/* ---- buffers */

/* Enough that full rings, bursts and caches of all workers never leave a queue without. */
static uint32_t buffers_wanted(const struct dpdk_port *d, const struct port_dpdk_config *cfg)
{
    uint32_t rings = d->nb_rx * cfg->rx_ring + d->nb_tx * cfg->tx_ring;
    uint32_t each = 2 * PORT_BURST_MAX + POOL_CACHE * 3 / 2 + (cfg->queues > 1 ? DPDK_RING : 0);
    return cfg->buffers ? cfg->buffers : rings + cfg->queues * each + 1024;
}

static_assert(RTE_PKTMBUF_HEADROOM >= FRAME_HEADROOM, "headers are pushed in front of what is sent");

static int pool_make(struct dpdk_port *d, const struct port_dpdk_config *cfg, char *why_r)
{
    char name[RTE_MEMPOOL_NAMESIZE];
    uint32_t n = buffers_wanted(d, cfg), frame = d->info.mtu + 32u;
    d->room = frame < FRAME_MIN ? FRAME_MIN : frame;
    snprintf(name, sizeof name, "satchel_%u", d->id);
    d->info.buffers = n;
    d->pool = rte_pktmbuf_pool_create(name, n, POOL_CACHE, 0, (uint16_t)(d->room + RTE_PKTMBUF_HEADROOM),
                                      rte_eth_dev_socket_id(d->id));
    if (!d->pool)
        return dpdk_fail(-rte_errno, why_r,
                         "reserve more huge pages (sysctl vm.nr_hugepages), or with --no-huge add \"-m 512\" to "
                         "dataplane.eal",
                         "no memory for %u buffers of %u bytes: %s", n, d->room, rte_strerror(rte_errno));
    return 0;
}

/* ---- set up */

static int queues_setup(struct dpdk_port *d, const struct port_dpdk_config *cfg, const struct rte_eth_conf *conf,
                        const struct rte_eth_dev_info *di)
{
    uint16_t rx_n = (uint16_t)cfg->rx_ring, tx_n = (uint16_t)cfg->tx_ring;
    struct rte_eth_rxconf rx = di->default_rxconf;
    struct rte_eth_txconf tx = di->default_txconf;
    int res = rte_eth_dev_adjust_nb_rx_tx_desc(d->id, &rx_n, &tx_n), socket = rte_eth_dev_socket_id(d->id);
    rx.offloads = conf->rxmode.offloads;
    tx.offloads = conf->txmode.offloads;
    for (uint16_t i = 0; res == 0 && i < d->nb_rx; i++)
        res = rte_eth_rx_queue_setup(d->id, i, rx_n, (unsigned)socket, &rx, d->pool);
    for (uint16_t i = 0; res == 0 && i < d->nb_tx; i++)
        res = rte_eth_tx_queue_setup(d->id, i, tx_n, (unsigned)socket, &tx);
    return res;
}

static int device_try(struct dpdk_port *d, const struct port_dpdk_config *cfg, const struct rte_eth_conf *conf,
                      const struct rte_eth_dev_info *di)
{
    int res = rte_eth_dev_configure(d->id, d->nb_rx, d->nb_tx, conf);
    if (res == 0)
        res = mtu_tell(d, cfg->mtu);
    if (res == 0)
        res = queues_setup(d, cfg, conf, di);
    return res == 0 ? rte_eth_dev_start(d->id) : res;
}

/* Some drivers fail over interrupts that they do not have. */
static int device_start(struct dpdk_port *d, const struct port_dpdk_config *cfg, struct rte_eth_conf *conf,
                        const struct rte_eth_dev_info *di, char *why_r)
{
    dpdk_log_hush(true);
    int res = device_try(d, cfg, conf, di);
    if (res < 0) {
        conf->intr_conf.rxq = conf->intr_conf.lsc = 0;
        res = device_try(d, cfg, conf, di);
    }
    dpdk_log_hush(false);
    if (res < 0)
        res = device_try(d, cfg, conf, di); /* in vain, for what the driver says */
    if (res < 0)
        return dpdk_fail(res, why_r, dpdk_remedy("see docs/dpdk.md for what was tried with which driver"),
                         "%s (%s) with %u receive and %u send queues: %s", d->info.name, di->driver_name, d->nb_rx,
                         d->nb_tx, rte_strerror(-res));
    return 0;
}

/* NDP is multicast. */
static void device_listen(struct dpdk_port *d, const struct port_dpdk_config *cfg, const struct rte_eth_conf *conf)
{
    dpdk_log_hush(true);
    if (conf->rxmode.offloads & RTE_ETH_RX_OFFLOAD_VLAN_FILTER && rte_eth_dev_vlan_filter(d->id, cfg->vlan, 1) < 0)
        log_warning("port.vlan", "device=%s vlan=%u why=\"it lets no frames of it through\"", d->info.name, cfg->vlan);
    if (rte_eth_allmulticast_enable(d->id) != 0)
        rte_eth_promiscuous_enable(d->id);
    rte_eth_dev_set_link_up(d->id);
    dpdk_log_hush(false);
}

/* ---- interrupts */

/* Eventfds count and must be read; net_vhost's is an epoll of its own, around an eventfd that nobody reads; a tap's
 * descriptor is the tap itself.  UIO's interrupts are of another kind. */
static bool intr_usable(struct dpdk_intr *intr)
{
    char path[64], to[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", intr->fd);
    ssize_t n = readlink(path, to, sizeof to - 1);
    to[n < 0 ? 0 : n] = 0;
    intr->counts = strstr(to, "eventfd") != NULL;
    intr->edge = strstr(to, "eventpoll") != NULL;
    return n > 0 && strncmp(to, "/dev/uio", 8) != 0;
}

/* A tap has nothing to enable: its descriptor tells of frames all the time. */
static bool intr_enables(const struct dpdk_port *d, uint16_t i)
{
    int res = rte_eth_dev_rx_intr_enable(d->id, i);
    return res == 0 || (res == -ENOTSUP && !d->intr[i].counts && !d->intr[i].edge);
}

static bool intr_have(struct dpdk_port *d)
{
    for (uint16_t i = 0; i < d->nb_rx; i++) {
        d->intr[i].fd = rte_eth_dev_rx_intr_ctl_q_get_fd(d->id, i);
        if (d->intr[i].fd < 0 || !intr_usable(&d->intr[i]) || !intr_enables(d, i))
            return false;
        /* An edge that came before we asked for it is lost, unless frames can be counted. */
        if ((d->intr[i].counts || d->intr[i].edge) && rte_eth_rx_queue_count(d->id, i) < 0)
            return false;
        rte_eth_dev_rx_intr_disable(d->id, i);
    }
    return true;
}

static void intr_probe(struct dpdk_port *d, const struct rte_eth_conf *conf)
{
    dpdk_log_hush(true);
    d->intr_have = conf->intr_conf.rxq && intr_have(d);
    intr_trust_init(&d->trust);
    d->tells_link = conf->intr_conf.lsc;
    dpdk_log_hush(false);
}

/* ---- link */

bool dpdk_link_up(const struct dpdk_port *d)
{
    struct rte_eth_link link = {0};
    return rte_eth_link_get_nowait(d->id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

/* Any thread: what was seen last is what stands. */
static void link_look(struct dpdk_port *d)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    bool up = dpdk_link_up(d), was = !atomic_exchange(&d->no_link, !up);
    pthread_mutex_unlock(&lock);
    if (up != was)
        log_info("port.link", "device=%s up=%d", d->info.name, up);
}

/* Who sleeps arms anew: a device forgets who wanted interrupts when its peer comes again. */
static int link_changed(uint16_t id, enum rte_eth_event_type type, void *arg, void *ret)
{
    struct dpdk_port *d = arg;
    (void)id, (void)type, (void)ret;
    link_look(d);
    for (uint32_t i = 0; i < d->info.queues; i++)
        bell_ring(&d->queues[i].bell);
    return 0;
}

void dpdk_link_watch(struct dpdk_port *d)
{
    if (!d->tells_link)
        return;
    rte_eth_dev_callback_register(d->id, RTE_ETH_EVENT_INTR_LSC, link_changed, d);
    link_look(d);
}

void dpdk_link_unwatch(struct dpdk_port *d)
{
    while (d->tells_link && rte_eth_dev_callback_unregister(d->id, RTE_ETH_EVENT_INTR_LSC, link_changed, d) == -EAGAIN)
        sched_yield();
}

/* ---- open, close */

/* A tap's two ends have one MAC, and it is the kernel's: two stations of a link need two. */
static void mac_get(struct dpdk_port *d)
{
    struct rte_ether_addr mac = {{0}};
    rte_eth_macaddr_get(d->id, &mac);
    memcpy(d->info.mac, mac.addr_bytes, sizeof d->info.mac);
    if (strcmp(d->info.driver, "net_tap") == 0)
        d->info.mac[5] ^= 1;
}

static int device_setup(struct dpdk_port *d, const struct port_dpdk_config *cfg, char *why_r)
{
    struct rte_eth_dev_info di;
    struct rte_eth_conf conf = {0};
    int res = rte_eth_dev_info_get(d->id, &di);
    if (res < 0)
        return dpdk_fail(res, why_r, "is it in use by another process", "%s tells nothing about itself", d->info.name);
    snprintf(d->info.driver, sizeof d->info.driver, "%s", di.driver_name);
    if (strcmp(d->info.driver, "net_af_xdp") == 0 && !rte_eal_has_hugepages())
        return dpdk_fail(-SATCHEL_EINVAL, why_r,
                         "reserve some (sysctl vm.nr_hugepages=512) and take --no-huge out of dataplane.eal, or use "
                         "net_af_packet",
                         "%s loses frames without huge pages: none may lie across two pages", d->info.name);
    device_offer(d, cfg, &di, &conf);
    if ((res = mtu_choose(d, cfg->mtu, &di, &conf, why_r)) < 0 || (res = pool_make(d, cfg, why_r)) < 0 ||
        (res = device_start(d, cfg, &conf, &di, why_r)) < 0)
        return res;
    if (dpdk_dma_failed())
        return dpdk_fail(-SATCHEL_ENOMEM, why_r,
                         "let satcheld lock memory: LimitMEMLOCK=infinity in its unit, or ulimit -l unlimited",
                         "%s does not reach all of our memory", d->info.name);
    device_offered(d, &conf);
    device_listen(d, cfg, &conf);
    intr_probe(d, &conf);
    mac_get(d);
    d->info.queues = cfg->queues;
    d->info.rx_queues = d->nb_rx;
    d->info.tx_queues = d->nb_tx;
    return 0;
}

int dpdk_dev_open(struct dpdk_port *d, const struct port_dpdk_config *cfg, char *why_r)
{
    if (getrandom(d->key, sizeof d->key, 0) != sizeof d->key)
        return dpdk_fail(-SATCHEL_EIO, why_r, "is /dev/urandom there", "the kernel gave no random bytes");
    int res = device_find(d, cfg, why_r);
    if (res == 0 && (res = device_setup(d, cfg, why_r)) < 0)
        dpdk_dev_close(d);
    if (res < 0)
        return res;
    log_info("port.open", "device=%s driver=%s mac=%02x:%02x:%02x:%02x:%02x:%02x mtu=%u queues=%u rx=%u tx=%u rss=%d",
             d->info.name, d->info.driver, d->info.mac[0], d->info.mac[1], d->info.mac[2], d->info.mac[3],
             d->info.mac[4], d->info.mac[5], d->info.mtu, d->info.queues, d->nb_rx, d->nb_tx, d->info.rss);
    return 0;
}

void dpdk_dev_close(struct dpdk_port *d)
{
    rte_eth_dev_stop(d->id);
    rte_eth_dev_close(d->id);
    rte_mempool_free(d->pool);
    d->pool = NULL;
}
