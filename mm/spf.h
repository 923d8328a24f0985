/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Speculative page faults: what the fault handlers in mm/ call.
 */
#ifndef __MM_SPF_H
#define __MM_SPF_H

#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/spf.h>

/*
 * Allocate without sleeping and without noise, and leave the reserves alone:
 * the fault with the lock reclaims, or reports that there is nothing left.
 */
#define GFP_SPECULATIVE	((GFP_HIGHUSER_MOVABLE & ~__GFP_DIRECT_RECLAIM) | \
			 __GFP_NOWARN | __GFP_NOMEMALLOC)

/*
 * The largest folio to clear inside the RCU section: bounds the latency, above
 * all where the section is not preemptible. In bytes: a page alone has up to
 * 64 kB.
 */
#define SPF_MAX_ORDER	get_order(IS_ENABLED(CONFIG_PREEMPT_RCU) ? SZ_2M : SZ_64K)

/* Where spf_delay() can hold up a fault. */
enum spf_delay {
	SPF_DELAY_FOUND,	/* the VMA was found, vm_lock_seq is next */
	SPF_DELAY_SEQUENCE,	/* vm_lock_seq was read, mm_lock_seq is next */
	SPF_DELAY_SNAPSHOT,	/* the copy of the VMA was found valid */
	SPF_DELAY_MAPPING,	/* about to see whether the file is still it */
	SPF_DELAY_UNLOCKED,	/* about to lock the page table, each time */
	SPF_DELAY_LOCKED,	/* validated, with the page table lock */
	NR_SPF_DELAYS
};

#ifdef CONFIG_DEBUG_SPECULATIVE_PAGE_FAULT
void spf_delay(enum spf_delay point);
#else
static inline void spf_delay(enum spf_delay point) {}
#endif

bool spf_pte_map_lock(struct vm_fault *vmf, unsigned long addr);
bool spf_pte_spinlock(struct vm_fault *vmf);
bool spf_ptl_validate(struct vm_fault *vmf, spinlock_t *ptl);
bool spf_vma_unchanged(const struct vm_fault *vmf);
struct folio *filemap_lock_cached_folio(struct vm_fault *vmf);
void filemap_mmap_hit(const struct vm_fault *vmf);
vm_fault_t spf_nothing_mapped(struct vm_fault *vmf);
vm_fault_t spf_lock_swapcache(struct vm_fault *vmf, struct folio *folio);
bool spf_may_copy(struct vm_fault *vmf);

#ifdef CONFIG_SPECULATIVE_PAGE_FAULT
void spf_stop_copying(struct mm_struct *mm);
#else
static inline void spf_stop_copying(struct mm_struct *mm) {}
#endif

/* ->get_policy() would be called, for a file that nobody keeps open for us. */
static inline bool spf_may_allocate(const struct vm_operations_struct *ops)
{
#ifdef CONFIG_NUMA
	return !ops || !ops->get_policy;
#else
	return true;
#endif
}

/* How to allocate the folio of a fault on anonymous memory. */
static inline gfp_t vmf_anon_gfp(const struct vm_fault *vmf)
{
	return vmf_speculative(vmf) ? GFP_SPECULATIVE : GFP_HIGHUSER_MOVABLE;
}

static inline struct vma_speculation *vmf_speculation(const struct vm_fault *vmf)
{
	return container_of(vmf->vma, struct vma_speculation, vma);
}

/* Give up. Returns VM_FAULT_RETRY for the handler to return. */
static inline vm_fault_t spf_abort(const struct vm_fault *vmf,
				   enum spf_abort reason)
{
	vmf_speculation(vmf)->reason = reason;
	return VM_FAULT_RETRY;
}

/*
 * task_numa_fault() may sleep, and may move the task: vma_speculate_fault() calls
 * it.
 */
static inline void spf_numa_fault(struct vm_fault *vmf, int last_cpupid,
				  int nid, int pages, int flags)
{
	struct vma_speculation *spf = vmf_speculation(vmf);

	spf->numa.last_cpupid = last_cpupid;
	spf->numa.nid = nid;
	spf->numa.pages = pages;
	spf->numa.flags = flags;
}

/*
 * What the handlers' result comes to. To fail is left to the fault with the lock:
 * what made this one fail may be over, and was not validated. Nor is a fault
 * resolved that nobody validated.
 */
static inline vm_fault_t spf_finish(struct vm_area_struct *vma, vm_fault_t ret)
{
	struct vma_speculation *spf;

	spf = container_of(vma, struct vma_speculation, vma);
	if (likely(spf->reason == NR_SPF_ABORTS &&
		   !(ret & (VM_FAULT_ERROR | VM_FAULT_RETRY))))
		return ret;
	if (ret & VM_FAULT_OOM)
		spf->reason = SPF_ABORT_NOMEM;
	else if (spf->reason == NR_SPF_ABORTS)
		spf->reason = SPF_ABORT_ERROR;
	return VM_FAULT_RETRY;
}

#ifdef CONFIG_MMU
/*
 * pte_offset_map() of a speculative fault. Cannot fail: the walk has looked at the
 * entry. We stick to the value that it read, to read it again would be to trust
 * what was not checked.
 */
static inline pte_t *spf_pte_map(const struct vm_fault *vmf, unsigned long addr)
{
	pmd_t *pmd = &vmf_speculation(vmf)->pmd;

	VM_WARN_ON_ONCE(pmd_trans_huge(*pmd));
	rcu_read_lock();
	return __pte_map(pmd, addr);
}

/**
 * pte_map_lock() - Map and lock the page table of a fault
 * @vmf: The fault. On success vmf->pte and vmf->ptl are set
 * @addr: The address to map, in the same page table as the fault's
 *
 * Context: With the fault's lock, or within its speculation. If that fails, the
 * fault is aborted.
 * Return: true with the page table lock held; the fault may then change the page
 * table as if it held the VMA lock until pte_unmap_unlock(). false, and vmf->pte
 * is NULL, if there is no page table or the fault was aborted.
 */
static inline bool pte_map_lock(struct vm_fault *vmf, unsigned long addr)
{
	if (vmf_speculative(vmf))
		return spf_pte_map_lock(vmf, addr);

	vmf->pte = pte_offset_map_lock(vmf->vma->vm_mm, vmf->pmd, addr,
				       &vmf->ptl);
	return vmf->pte;
}

/**
 * pte_spinlock() - Lock the page table that a fault has mapped
 * @vmf: The fault, with vmf->pte set. vmf->ptl is, but for speculative faults
 *
 * Context: As pte_map_lock().
 * Return: true with the page table lock held, as pte_map_lock(). false with the
 * page table unmapped if the fault was aborted.
 */
static inline bool pte_spinlock(struct vm_fault *vmf)
{
	if (vmf_speculative(vmf))
		return spf_pte_spinlock(vmf);

	spin_lock(vmf->ptl);
	return true;
}

/**
 * pmd_spinlock() - Lock the entry of a huge page
 * @vmf: The fault, with vmf->ptl set to the lock of vmf->pmd
 *
 * Context: As pte_map_lock().
 * Return: true with the lock held, as pte_map_lock(). false if the fault was
 * aborted.
 */
static inline bool pmd_spinlock(struct vm_fault *vmf)
{
	if (vmf_speculative(vmf))
		return spf_ptl_validate(vmf, vmf->ptl);

	spin_lock(vmf->ptl);
	return true;
}

/**
 * spf_drain_page_table() - Wait for the fault that has a page table locked
 * @mm: The mm
 * @pmd_ptl: The lock of the pmd entry that points to the page table
 * @pmd: The value of that entry, which does point to one
 *
 * For those who unhook a page table without its lock. A speculative fault that
 * found vm_lock_seq unchanged under that lock may still be about to set an
 * entry, and to make it known to hardware. Later ones see the sequence that the
 * caller's vma_start_write() stored.
 *
 * Context: With @pmd_ptl held, and the lock of at most one other pmd.
 */
static inline void spf_drain_page_table(struct mm_struct *mm,
					spinlock_t *pmd_ptl, pmd_t pmd)
{
	spinlock_t *ptl = pte_lockptr(mm, &pmd);

	/* Without split page table locks the caller's lock is the same. */
	if (!IS_ENABLED(CONFIG_SPECULATIVE_PAGE_FAULT) || ptl == pmd_ptl)
		return;

	/* The caller may have the locks of two pmds. */
	spin_lock_nested(ptl, SINGLE_DEPTH_NESTING + 1);
	spin_unlock(ptl);
}

#endif /* CONFIG_MMU */

#endif /* __MM_SPF_H */
