/* port_dpdk_pci.c - why a PCI device that the configuration names is none of DPDK's, as sysfs has it. */
#include "dataplane/net/port_dpdk.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PCI_ADDRESS_MAX 16u

/* The first "0000:3b:00.0", or without its domain, in the text. */
static bool address_in(const char *text, char address_r[PCI_ADDRESS_MAX])
{
    unsigned domain, bus, dev, fn;
    for (const char *at = text; *at; at++) {
        int n = sscanf(at, "%4x:%2x:%2x.%1x", &domain, &bus, &dev, &fn);
        if (n != 4) {
            domain = 0;
            n = 1 + sscanf(at, "%2x:%2x.%1x", &bus, &dev, &fn);
        }
        if (n == 4) {
            snprintf(address_r, PCI_ADDRESS_MAX, "%04x:%02x:%02x.%x", domain & 0xffff, bus & 0xff, dev & 0xff, fn & 7);
            return true;
        }
    }
    return false;
}

/* The driver to bind it to: vfio's wants an IOMMU. */
static const char *driver_wanted(const char *address)
{
    char path[64];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", address);
    return access(path, F_OK) == 0 ? "vfio-pci" : "uio_pci_generic";
}

/* Its driver's name, "": bound to none.  False: no such device. */
static bool driver_of(const char *address, char driver_r[64])
{
    char path[64], to[PATH_MAX];
    driver_r[0] = 0;
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s", address);
    if (access(path, F_OK) != 0)
        return false;
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/driver", address);
    ssize_t n = readlink(path, to, sizeof to - 1);
    to[n < 0 ? 0 : n] = 0;
    const char *name = strrchr(to, '/');
    snprintf(driver_r, 64, "%s", name ? name + 1 : "");
    return true;
}

/* Drivers that leave the device to DPDK; with the last one's NICs the kernel keeps its part. */
static bool is_for_dpdk(const char *driver)
{
    static const char *const names[] = {"vfio-pci", "uio_pci_generic", "igb_uio", "mlx5_core"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(driver, names[i]) == 0)
            return true;
    return false;
}

const char *dpdk_pci_remedy(const struct port_dpdk_config *cfg, const char *otherwise)
{
    static char text[256];
    char address[PCI_ADDRESS_MAX], driver[64];
    bool named = cfg->device && address_in(cfg->device, address);
    for (uint32_t i = 0; !named && i < cfg->eal_args_n; i++)
        named = strncmp(cfg->eal_args[i], "--vdev", 6) != 0 && address_in(cfg->eal_args[i], address);
    if (!named)
        return otherwise;
    if (!driver_of(address, driver))
        snprintf(text, sizeof text, "there is no PCI device %s here: see dpdk-devbind.py --status", address);
    else if (!is_for_dpdk(driver))
        snprintf(text, sizeof text, "%s is bound to %s: modprobe %s && dpdk-devbind.py -b %s %s", address,
                 *driver ? driver : "no driver", driver_wanted(address), driver_wanted(address), address);
    else
        snprintf(text, sizeof text,
                 "%s is bound to %s: is DPDK's driver for it installed (apt-get install librte-meta-net)", address,
                 driver);
    return text;
}
